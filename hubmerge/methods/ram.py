"""Reinforced agent merging: what one parent alone changed is kept whole, what several changed is averaged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from numpy import float32
from pydantic import Field

from hubmerge.jit import jitable
from hubmerge.method import Measure, Parameters, entrywise, merge_method
from hubmerge.ops.bits import replaced

__all__ = ["RamParameters", "RamplusParameters", "ram", "ramplus_tl", "unique_factors"]

_PAPER = "Yuan et al. 2026, Behavior Knowledge Merge in Reinforced Agentic Models, arXiv:2601.13572"


class RamParameters(Parameters):
    epsilon: float = Field(1e-5, ge=0, description="a parent changed the entries whose delta is larger than this")


class RamplusParameters(RamParameters):
    r: float = Field(
        0.1, description="how much a parent's own changes grow with the share of its changes that others made too"
    )
    alpha: float = Field(0.2, ge=0, description="most that shared changes count, as a multiple of the parent's own")


@jitable
def _changed(deltas: Sequence[float32], epsilon: float32) -> float32:
    """How many parents changed the entry."""
    count = float32(0)
    for delta in deltas:
        if abs(delta) > epsilon:
            count += float32(1)
    return count


@jitable
def _sum_of_changes(deltas: Sequence[float32], epsilon: float32) -> float32:
    total = float32(0)
    for delta in deltas:
        if abs(delta) > epsilon:
            total += delta
    return total


@jitable
def _sum_of_scaled(deltas: Sequence[float32], factors: Sequence[float32], epsilon: float32) -> float32:
    total = float32(0)
    for delta, factor in zip(deltas, factors):
        if abs(delta) > epsilon:
            total += delta * factor
    return total


def _alone(deltas: Sequence[float32], epsilon: float32) -> Any:
    """For every parent 1 where it alone changed the entry."""
    alone = float32(1) if _changed(deltas, epsilon) == float32(1) else float32(0)
    marks = deltas
    for k in range(len(deltas)):
        marks = replaced(marks, k, alone if abs(deltas[k]) > epsilon else float32(0))
    return marks


def _together(deltas: Sequence[float32], epsilon: float32) -> Any:
    """For every parent 1 where it and others changed the entry."""
    together = float32(1) if _changed(deltas, epsilon) > float32(1) else float32(0)
    marks = deltas
    for k in range(len(deltas)):
        marks = replaced(marks, k, together if abs(deltas[k]) > epsilon else float32(0))
    return marks


@merge_method("ram", parameters=RamParameters, operand="delta", paper=_PAPER)
@entrywise
def ram(deltas: Sequence[float32], epsilon: float32) -> float32:
    """Average the deltas of the parents that changed an entry; one parent's own change is kept whole.

    deltas: one float32 per parent.  Returns the mean of the deltas that are larger than `epsilon` in magnitude, 0 without
    any.
    """
    merged: float32 = _sum_of_changes(deltas, epsilon) / max(_changed(deltas, epsilon), float32(1))
    return merged


def unique_factors(alone: Sequence[float], together: Sequence[float], r: float, alpha: float) -> tuple[float, ...]:
    """What every parent's own changes are multiplied by: 1 + r * min(together / alone, alpha).

    alone, together: how many entries of the tensor a parent changed by itself, and with others.  A parent all of whose
    changes are shared has the ratio alpha.
    """
    ratios = (both / own if own else alpha if both else 0.0 for own, both in zip(alone, together, strict=True))
    return tuple(1 + r * min(ratio, alpha) for ratio in ratios)


def _factors(measure: Measure, values: Mapping[str, Any]) -> Mapping[str, Any]:
    epsilon = float32(values["epsilon"])
    alone, together = (measure.sums(rule, epsilon) for rule in (_alone, _together))
    return {"factors": unique_factors(alone, together, values["r"], values["alpha"])}


@merge_method("ramplus_tl", parameters=RamplusParameters, operand="delta", measure=_factors, passes=2, paper=_PAPER)
@entrywise
def ramplus_tl(deltas: Sequence[float32], factors: Sequence[float32], epsilon: float32) -> float32:
    """Average the deltas of the parents that changed an entry; one parent's own change is kept and made larger.

    deltas: one float32 per parent.  factors: `unique_factors` of the whole tensor (the paper takes them from the whole
    model; tl is for tensor-local, as in mergekit).  Returns the mean of the deltas that are larger than `epsilon` in
    magnitude, times its parent's factor where it is only one.
    """
    count = _changed(deltas, epsilon)
    alone: float32 = _sum_of_scaled(deltas, factors, epsilon)
    together: float32 = _sum_of_changes(deltas, epsilon) / max(count, float32(1))
    return alone if count == float32(1) else together
