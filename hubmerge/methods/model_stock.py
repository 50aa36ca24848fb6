"""Model stock: how far to go from the base model to the parents' mean, from the angles between their deltas."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy import float32
from pydantic import Field

from hubmerge.method import Measure, Parameters, PerGroup, entrywise, merge_method

__all__ = ["ModelStockParameters", "model_stock", "stock_ratio"]

Array = np.ndarray[Any, np.dtype[Any]]

_SHORTEST = 1e-6
_SINGULAR = 1e-6


class ModelStockParameters(Parameters):
    filter_wise: bool = Field(False, description="one ratio for every row (along the last dimension)")


def stock_ratio(gram: Array) -> Array:
    """How far every group goes towards the parents' mean: 0 is the base model, 1 the mean.

    gram: inner products of the deltas, float64 (groups, parents, parents), of at least two parents.  Returns float64
    (groups,): N c / (1 + (N - 1) c), the paper's equation 4 for N parents, where c is the mean cosine of two deltas.  As
    in mergekit a product of two lengths counts as at least 1e-6, so that short deltas have smaller cosines, and a group whose
    denominator is below 1e-6 in magnitude stays at the base.  Deltas that point apart give a negative ratio.
    """
    count = gram.shape[-1]
    first, second = np.triu_indices(count, 1)
    lengths = np.sqrt(np.einsum("gii->gi", gram))
    products = np.maximum(lengths[:, first] * lengths[:, second], _SHORTEST)
    cosines = np.clip(gram[:, first, second] / products, -1, 1)
    cosine = np.sort(cosines, axis=-1).mean(axis=-1)  # sorted: the order of the parents must change no bit
    denominator = 1 + (count - 1) * cosine
    singular = np.abs(denominator) < _SINGULAR
    ratio: Array = np.where(singular, 0, count * cosine / np.where(singular, 1, denominator))
    return ratio


def _stock_arguments(measure: Measure, values: Mapping[str, Any]) -> Mapping[str, Any]:
    gram = measure.gram_rows() if values["filter_wise"] else measure.gram()[None]
    step = stock_ratio(gram) / measure.parents
    return {"step": PerGroup(step.astype(np.float32)[:, None]) if values["filter_wise"] else (float(step[0]),)}


@merge_method(
    "model_stock",
    parameters=ModelStockParameters,
    operand="delta",
    parents=(2, None),
    measure=_stock_arguments,
    groups=lambda values: "row" if values["filter_wise"] else None,
    paper="Jang et al. 2024, Model Stock, arXiv:2403.19522",
)
@entrywise
def model_stock(deltas: Sequence[float32], step: Sequence[float32]) -> float32:
    """Go from the base model towards the parents' mean, as far as the angles between their deltas say.

    deltas: one float32 per parent.  step: `stock_ratio` of the whole tensor, or with `filter_wise` of the entry's row,
    divided by the number of parents.  Returns the merged delta of the entry, step * sum(delta): the mean of N deltas times
    N c / (1 + (N - 1) c), where c is the mean cosine of two of them.  In the paper training goes on between such merges
    (periodic merging); this is its last one.
    """
    total = float32(0)
    for delta in deltas:
        total += delta
    return step[0] * total
