"""What an adapter's factors were before training, where that was taken off the base: PiSSA and OLoRA, found again in the base.

Sources: Meng et al. 2024, PiSSA, arXiv:2404.02948: the leading singular triplets of W; Buyukakyuz 2024, OLoRA, arXiv:2406.01775: the
leading columns of Q and rows of R where W = Q R.  As PEFT has them: PiSSA's product is the same for every scale, OLoRA's is scaled.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hubmerge.errors import PlanError

__all__ = ["starting_factors"]

Floats = NDArray[np.float64]

_GAP = 1e-6
"""The singular values on both sides of PiSSA's cut are this far apart, over the largest, or rounding decides what was cut."""


def starting_factors(
    start: str, weight: NDArray[np.float32], rank: int, scale: float, where: str
) -> tuple[Floats, Floats]:
    """B and A, (out, rank) and (rank, in), whose product is what was taken off ``weight``, (out, in), when training began.

    start: pissa or olora.  scale: alpha / r.  Raises `PlanError` for a rank that the weight does not have, and where the base does not say
    what PiSSA took: its singular values next to the cut are as good as equal.
    """
    wide = weight.astype(np.float64)
    if rank > min(wide.shape):
        raise PlanError(
            f"rank {rank} is more than a weight of shape {list(wide.shape)} has", where=where, hint="is this the base?"
        )
    if start == "olora":
        left = np.linalg.qr(wide[:, :rank])[0]
        return scale * left, left.T @ wide
    return _principal(wide, rank, where)


def _principal(wide: Floats, rank: int, where: str) -> tuple[Floats, Floats]:
    """The leading singular triplets, from eigenvectors of the smaller Gram matrix: what they span is all that is asked for."""
    from scipy.linalg import eigh

    tall = wide.shape[0] > wide.shape[1]
    gram = wide.T @ wide if tall else wide @ wide.T
    size = gram.shape[0]
    values, vectors = eigh(gram, subset_by_index=(max(0, size - rank - 1), size - 1))
    singular = np.sqrt(np.maximum(values, 0.0))
    if size > rank and singular[1] - singular[0] < _GAP * singular[-1]:
        raise PlanError(
            f"singular values {rank} and {rank + 1} are as good as equal, so that the base does not say what PiSSA took off",
            where=where,
            hint="give the adapter as it was before training",
        )
    leading = vectors[:, -rank:]
    return (wide @ leading, leading.T) if tall else (leading, leading.T @ wide)
