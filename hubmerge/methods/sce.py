"""SCE: select the entries in which the parents differ most, weigh parents by their energy, erase minority signs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from numpy import float32
from pydantic import Field

from hubmerge.jit import jitable
from hubmerge.method import Measure, Parameters, entrywise, merge_method
from hubmerge.ops.bits import replaced
from hubmerge.ops.signs import elected_sign

__all__ = ["SceParameters", "sce"]

_NO_ENERGY = 1e-6


class SceParameters(Parameters):
    select_topk: float = Field(
        1.0,
        ge=0,
        le=1,
        description="share of the entries with any variance between the parents that is merged, the largest",
    )


@jitable
def _variance(deltas: Sequence[float32]) -> float32:
    """The population variance of one entry's deltas over the parents."""
    total = count = float32(0)
    for delta in deltas:
        total += delta
        count += float32(1)
    mean, squares = total / count, float32(0)
    for delta in deltas:
        squares += (delta - mean) * (delta - mean)
    return squares / count


def _energies(deltas: Any, threshold: float32) -> Any:
    """Each parent's squared delta, 0 where the entry is not selected."""
    selected = _variance(deltas) >= threshold
    for k in range(len(deltas)):
        deltas = replaced(deltas, k, deltas[k] * deltas[k] if selected else float32(0))
    return deltas


def _selection(measure: Measure, values: Mapping[str, Any]) -> Mapping[str, Any]:
    share, ones = values["select_topk"], (1.0,) * measure.parents
    threshold = 0.0
    if share < 1:
        (found,) = measure.ranked(lambda differing: [[int(count * share) for count in differing]], _variance)
        threshold = float(found[0])
    energies = [total / max(1, measure.entries) for total in measure.sums(_energies, threshold)]
    total = sum(energies)
    weight = tuple(energy / total for energy in energies) if total >= _NO_ENERGY else tuple(1 / len(ones) for _ in ones)
    return {"threshold": threshold, "weight": weight, "votes": ones}


@merge_method(
    "sce",
    parameters=SceParameters,
    operand="delta",
    measure=_selection,
    passes=lambda values: 1 + 2 * (values["select_topk"] < 1),
    shares=lambda values, parents: (1.0 / parents,) * parents,  # noqa: ARG005 - the weights are measured, tensor by tensor
    paper="Wan et al. 2024, FuseChat (SCE), arXiv:2408.07990",
)
@entrywise
def sce(deltas: Sequence[float32], threshold: float32, weight: Sequence[float32], votes: Sequence[float32]) -> float32:
    """Merge the entries in which the parents differ most, each parent by the energy of its delta, without minority signs.

    deltas, weight, votes: one float32 per parent.  Of the entries of a tensor whose population variance over the parents is
    not 0, the share `select_topk` with the largest is selected (entries that tie with the last of them too); the others, and
    all of a single parent's when a share below 1 is asked for, keep the base's value.  weight is each parent's mean squared
    selected delta over their sum, equal shares where that sum is below 1e-6, as in mergekit.  An entry's sign is that of the
    sum of its deltas, plus for 0; those that have it are averaged by their weights, whose sum counts as 1e-6 at least.
    """
    if _variance(deltas) < threshold:
        return float32(0)
    sign = elected_sign(deltas, votes, float32(1))
    total = share = float32(0)
    for delta, w in zip(deltas, weight):
        if delta * sign > 0:
            total += delta * w
            share += w
    return total / max(share, float32(1e-6))
