"""Isotropic merging: all directions of the summed task matrices get the same singular value."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hubmerge.method import matrix, merge_method
from hubmerge.methods.task_matrices import (
    TaskMatrixParameters,
    as_matrices,
    by_singular_vectors,
    mean_elsewhere,
    rounding_of,
    significant,
    summed,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

__all__ = ["IsoCParameters", "iso_c"]


class IsoCParameters(TaskMatrixParameters):
    """See there."""


@merge_method(
    "iso_c",
    parameters=IsoCParameters,
    operand="delta",
    named=by_singular_vectors,
    elsewhere=mean_elsewhere,
    revision=3,
    paper="Marczak et al. 2025, No task left behind: isotropic model merging, arXiv:2502.04959",
)
@matrix
def iso_c(deltas: Sequence[torch.Tensor], base: torch.Tensor, lambda_: float) -> torch.Tensor:
    """Flatten the singular values of the summed deltas to their mean (Iso-C, algorithm 1).

    deltas: one float32 (out, in) tensor per parent.  Returns lambda * s * U V^T, where U S V^T is the SVD of their sum and
    s the mean of S.  Tensors that are not matrices (norms, biases, convolutions) get lambda * the mean of the deltas, as
    in the authors' code, and so do embeddings, heads over the vocabulary, tables of positions and text_projection (the authors
    leave out the last alone): `svd` chooses otherwise, by a filter on names where it is to.  Fused projections are one matrix.
    Differs from the authors' code where the sum has not full rank: U, S and V, and so the mean, are restricted to the numerical
    rank, because the remaining singular vectors are noise of the solver and of float32; a zero sum stays zero.  Matrices whose
    smaller side is at most 1,024 are decomposed in float64, where the authors' code has float32.
    """
    import torch

    matrices = as_matrices(deltas)
    total = summed(matrices)
    left, values, right = torch.linalg.svd(total, full_matrices=False)
    rank = significant(values, total.shape, rounding_of(base, matrices))
    flattened: torch.Tensor = lambda_ * values[:rank].sum() / max(rank, 1) * (left[:, :rank] @ right[:rank])
    return flattened.reshape(deltas[0].shape).float()
