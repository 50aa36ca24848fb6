"""Fusion by importance: the other model's entries replace the base model's where they stand out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy import float32, float64

from hubmerge.jit import jitable
from hubmerge.method import Measure, Parameters, PerGroup, entrywise, merge_method
from hubmerge.ops.exponential import exponential, logarithm
from hubmerge.ops.sums import total_of

__all__ = ["FusionParameters", "arcee_fusion", "fusion_threshold"]

_SMALLEST = 1e-8


class FusionParameters(Parameters):
    pass


@jitable
def _distribution(row: Any, out: Any) -> None:
    """The softmax distribution of a row of float32 numbers, 1e-8 added to every probability, in float64."""
    highest = row[0]
    for value in row:
        highest = max(highest, value)
    for i in range(row.size):
        out[i] = exponential(float64(row[i]) - float64(highest))
    total = total_of(out)
    for i in range(row.size):
        out[i] = out[i] / total + _SMALLEST


def _row_divergence(base: Any, parents: Any, line: Any) -> None:  # noqa: ARG001 - the base is the first parent
    """Fill ``line[0]`` with the divergence of a row of the other model from the base's row, in float64.

    The Kullback-Leibler divergence sum(p log(p / q)) of their distributions; 0 where rounding makes it negative.
    """
    q, p = np.empty(parents.shape[1]), np.empty(parents.shape[1])
    _distribution(np.ascontiguousarray(parents[0]), q)  # else the loops over it are not vectorised
    _distribution(np.ascontiguousarray(parents[1]), p)
    for i in range(p.size):
        q[i] = p[i] * logarithm(p[i] / q[i])
    line[0] = max(total_of(q), 0.0)


@jitable
def _importance(weights: Sequence[float32], divergence: Sequence[float32]) -> float32:
    return abs(weights[1] - weights[0]) * divergence[0]


def fusion_threshold(quartile: float32, median: float32, third_quartile: float32) -> float32:
    """The importance from which on entries are taken: median + 1.5 * (third quartile - first)."""
    return median + float32(1.5) * (third_quartile - quartile)


def _fusion_arguments(measure: Measure, values: Mapping[str, Any]) -> Mapping[str, Any]:  # noqa: ARG001 - it has none
    divergence = PerGroup(measure.rows(_row_divergence, 1).astype(np.float32))
    last = measure.entries - 1
    positions = (last // 4, last // 2, 3 * last // 4)  # in ascending order; ranks count from the largest
    (quartiles,) = measure.ranked([[measure.entries - position for position in positions]], _importance, divergence)
    return {"divergence": divergence, "threshold": fusion_threshold(*quartiles)}


@merge_method(
    "arcee_fusion",
    parameters=FusionParameters,
    operand="weight",
    base="start",
    parents=(2, 2),
    measure=_fusion_arguments,
    groups=lambda _: "row",
    passes=3,
    paper="Arcee Fusion, as in mergekit, https://github.com/arcee-ai/mergekit",
)
@entrywise
def arcee_fusion(weights: Sequence[float32], divergence: Sequence[float32], threshold: float32) -> float32:
    """Take the other model's entry where its importance stands out in the tensor, else the base model's.

    weights: the base's entry and the other's.  divergence: of the two models' rows (along the last dimension), as
    distributions.  The importance of an entry is its difference times its row's divergence; entries of at least `threshold`
    = median + 1.5 * (third quartile - first quartile) are taken.  The quartiles are the exact ones, at positions 1/4, 1/2
    and 3/4 of n - 1, rounded down; mergekit draws a million entries where a tensor has more, and rounds the divergence of
    nearly equal rows to noise in float32.
    """
    return weights[1] if _importance(weights, divergence) >= threshold else weights[0]
