"""How alike deltas are, from their running sums: Pearson correlation, cosine and distance, of a whole or as a mean over tensors.

Source: Hu et al. 2024, Exploring model kinship for merging large language models, arXiv:2410.12613, section 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hubmerge.deltas.sums import TensorSums

__all__ = ["Measures", "flat", "mean_over_pairs", "split"]

Floats = npt.NDArray[np.float64]

_CONSTANT = 1e-13
"""A variance below this share of the sum of squares is rounding: all entries of the delta are one number."""


@dataclass(frozen=True, eq=False)
class Measures:
    """Float64 (N, N), symmetric: Pearson correlation and cosine from -1 to 1, and the Euclidean distance of the deltas.

    absolute: the magnitude of the cosine; a mean over tensors is the mean of the magnitudes.  NaN where a delta is zero, for Pearson also
    where all its entries are one number.
    """

    pearson: Floats
    cosine: Floats
    absolute: Floats
    euclid: Floats


def flat(tensors: Sequence[TensorSums]) -> Measures:
    """The measures of all entries of `tensors` as one vector."""
    entries = sum(tensor.entries for tensor in tensors)
    gram, sums = sum(tensor.gram for tensor in tensors), sum(tensor.sums for tensor in tensors)
    return _measures(entries, np.asarray(gram), np.asarray(sums))


def split(tensors: Sequence[TensorSums]) -> Measures:
    """The mean of the measures of every tensor, weighted by its entries; a tensor for which one is NaN is not counted for that one."""
    own = [_measures(tensor.entries, tensor.gram, tensor.sums) for tensor in tensors]
    weights = np.array([tensor.entries for tensor in tensors], np.float64)[:, None, None]

    def mean(stacked: Floats) -> Floats:
        counted = np.where(np.isnan(stacked), 0.0, weights)
        with np.errstate(invalid="ignore"):
            found: Floats = (np.nan_to_num(stacked) * counted).sum(0) / counted.sum(0)
        return found

    return Measures(*(mean(np.stack([getattr(one, name) for one in own])) for name in Measures.__dataclass_fields__))


def mean_over_pairs(values: Floats) -> float:
    """The mean over all pairs of different models, (N, N) to a number: the kinship of N models; NaN where a pair is NaN."""
    return float(values[np.triu_indices(len(values), 1)].mean())


def _measures(entries: int, gram: Floats, sums: Floats) -> Measures:
    squares = gram.diagonal()
    covariance = gram - np.outer(sums, sums) / max(1, entries)
    variance = covariance.diagonal()
    variance = np.where(variance > _CONSTANT * squares, variance, 0.0)
    cosine = _over(gram, squares)
    distance = np.sqrt(np.maximum(squares[:, None] + squares[None, :] - 2 * gram, 0.0))
    return Measures(_over(covariance, variance), cosine, np.abs(cosine), distance)


def _over(products: Floats, squares: Floats) -> Floats:
    """Every product over the lengths of both, within -1 and 1; NaN where one has none."""
    lengths = np.sqrt(np.outer(squares, squares))
    with np.errstate(invalid="ignore", divide="ignore"):
        found: Floats = np.where(lengths > 0, np.clip(products / lengths, -1.0, 1.0), np.nan)
    return found
