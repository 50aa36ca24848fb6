"""Task arithmetic: weighted sums of what each parent learned on top of the base model, whole or thinned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from numpy import float32
from pydantic import Field

from hubmerge.method import (
    MergeMethod,
    Parameters,
    PerParent,
    compose,
    entrywise,
    recorded,
    register,
    register_combine,
)
from hubmerge.ops.della import DELLA
from hubmerge.ops.drop import RANDOM
from hubmerge.ops.trim import BREADCRUMBS

__all__ = ["WEIGHTED_SUM", "TaskArithmeticParameters", "task_arithmetic"]


class TaskArithmeticParameters(Parameters):
    weight: PerParent[float] = Field(1.0, description="coefficient of this parent's delta; negative forgets")
    lambda_: float = Field(1.0, alias="lambda", description="scale of the merged delta")
    normalize: bool = Field(False, description="divide the weights by their sum")


@entrywise
def task_arithmetic(deltas: Sequence[float32], weight: Sequence[float32], lambda_: float32, normalize: bool) -> float32:
    """Add the parents' deltas, weighted, to the base model.

    deltas, weight: one float32 per parent, in recipe order.  Returns the merged delta of the entry: lambda *
    sum(weight * delta), divided by sum(weight) when `normalize` (by 1 when that sum is smaller than 1e-8).
    """
    total = share = float32(0)
    for delta, w in zip(deltas, weight):
        total += delta * w
        share += w
    if normalize and abs(share) >= float32(1e-8):
        total /= share
    return lambda_ * total


WEIGHTED_SUM: MergeMethod = recorded(
    "task_arithmetic",
    task_arithmetic,
    parameters=TaskArithmeticParameters,
    operand="delta",
    paper="Ilharco et al. 2023, Editing models with task arithmetic, arXiv:2212.04089",
)

register(WEIGHTED_SUM)
register_combine(replace(WEIGHTED_SUM, name="weighted_sum"))
register(
    compose(
        WEIGHTED_SUM,
        RANDOM,
        name="dare_linear",
        about="Drop entries of each delta at random, then add the deltas, weighted, to the base model.",
    )
)
register(
    compose(
        WEIGHTED_SUM,
        DELLA,
        name="della_linear",
        about="Drop entries of each delta at random, small ones rather, then add the deltas, weighted, to the base model.",
    )
)
register(
    compose(
        WEIGHTED_SUM,
        BREADCRUMBS,
        name="breadcrumbs",
        about="Drop the largest and the smallest entries of each delta, then add the deltas, weighted, to the base model.",
    )
)
