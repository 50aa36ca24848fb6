"""TIES: trim, elect a sign, average the parents that agree with it."""

from __future__ import annotations

from collections.abc import Sequence

from numpy import float32
from pydantic import Field

from hubmerge.method import Parameters, PerParent, entrywise, merge_method
from hubmerge.ops.signs import elected_sign
from hubmerge.ops.trim import trim_by_magnitude

__all__ = ["TiesParameters", "ties"]


class TiesParameters(Parameters):
    weight: PerParent[float] = Field(1.0, description="coefficient of this parent's delta, also in the election")
    density: PerParent[float] = Field(1.0, gt=0, le=1, description="kept share of a delta's entries, the largest ones")
    lambda_: float = Field(1.0, alias="lambda", description="scale of the merged delta")
    normalize: bool = Field(True, description="divide by the weights of the agreeing parents")


@merge_method(
    "ties",
    parameters=TiesParameters,
    operand="delta",
    before=trim_by_magnitude("density"),
    paper="Yadav et al. 2023, TIES-Merging, arXiv:2306.01708",
)
@entrywise
def ties(deltas: Sequence[float32], weight: Sequence[float32], lambda_: float32, normalize: bool) -> float32:
    """Elect one sign for the entry by weighted sum; average the parents that agree.

    deltas, weight: one float32 per parent, deltas trimmed, in recipe order.  Returns the merged delta of the entry.
    A delta of zero agrees with nobody.  Differs from the paper (section 4): trims per tensor instead of per model and
    weighs before the election, as mergekit does.
    """
    sign = elected_sign(deltas, weight)
    total = share = float32(0)
    for delta, w in zip(deltas, weight):
        if delta * w * sign > 0:
            total += delta * w
            share += w
    return lambda_ * (total / share if normalize and share != 0 else total)
