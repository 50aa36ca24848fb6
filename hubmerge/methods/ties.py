"""TIES: trim, elect a sign, average the parents that agree with it."""

from __future__ import annotations

from collections.abc import Sequence

from numpy import float32
from pydantic import Field

from hubmerge.method import MergeMethod, Parameters, PerParent, compose, entrywise, recorded, register, register_combine
from hubmerge.ops.signs import elected_sign
from hubmerge.ops.trim import trim_by_magnitude

__all__ = ["SIGN_CONSENSUS", "SignConsensusParameters", "sign_consensus"]


class SignConsensusParameters(Parameters):
    weight: PerParent[float] = Field(1.0, description="coefficient of this parent's delta, also in the election")
    lambda_: float = Field(1.0, alias="lambda", description="scale of the merged delta")
    normalize: bool = Field(True, description="divide by the weights of the agreeing parents")


@entrywise
def sign_consensus(deltas: Sequence[float32], weight: Sequence[float32], lambda_: float32, normalize: bool) -> float32:
    """Elect one sign for the entry by weighted sum; average the parents that agree.

    deltas, weight: one float32 per parent, in recipe order.  Returns the merged delta of the entry.
    A delta of zero agrees with nobody.
    """
    sign = elected_sign(deltas, weight)
    total = share = float32(0)
    for delta, w in zip(deltas, weight):
        if delta * w * sign > 0:
            total += delta * w
            share += w
    return lambda_ * (total / share if normalize and share != 0 else total)


SIGN_CONSENSUS: MergeMethod = recorded(
    "sign_consensus",
    sign_consensus,
    parameters=SignConsensusParameters,
    operand="delta",
    paper="Yadav et al. 2023, TIES-Merging, arXiv:2306.01708",
)
register_combine(SIGN_CONSENSUS)
register(
    compose(
        SIGN_CONSENSUS,
        trim_by_magnitude,
        name="ties",
        about="Trim each delta to its largest entries, elect one sign for the entry, average the parents that agree.",
    )
)
