"""TIES: elect one sign for each entry, average the parents that agree with it; after trimming, and after other stages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from numpy import float32
from pydantic import Field

from hubmerge.jit import jitable
from hubmerge.method import (
    Measure,
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
from hubmerge.ops.signs import elected_sign
from hubmerge.ops.trim import BREADCRUMBS, MAGNITUDE

__all__ = ["SIGN_CONSENSUS", "SignConsensusParameters", "sign_consensus", "undecided_sign"]


class SignConsensusParameters(Parameters):
    weight: PerParent[float] = Field(1.0, description="coefficient of this parent's delta")
    lambda_: float = Field(1.0, alias="lambda", description="scale of the merged delta")
    normalize: bool = Field(True, description="average the agreeing deltas instead of adding them")
    elect: Literal["weighted", "plain"] = Field(
        "weighted",
        description="do the weights count in the election, or has every parent one vote per unit of its delta",
    )
    divide: Literal["weights", "count"] = Field(
        "weights", description="what an average divides by: the agreeing parents' weights, or how many they are"
    )
    undecided: Literal["plus", "minus", "none"] = Field(
        "plus", description="the sign elected by a sum of exactly 0; none: the entry keeps the base's value"
    )


_UNDECIDED = {"plus": 1.0, "minus": -1.0, "none": 0.0}


def undecided_sign(word: str) -> float:
    """The sign that `undecided` in a recipe stands for."""
    return _UNDECIDED[word]


def _election(measure: Measure, values: Mapping[str, Any]) -> Mapping[str, Any]:
    ones = (1.0,) * measure.parents
    return {
        "votes": values["weight"] if values["elect"] == "weighted" else ones,
        "shares": values["weight"] if values["divide"] == "weights" else ones,
        "undecided": undecided_sign(values["undecided"]),
    }


@entrywise
@jitable
def sign_consensus(
    deltas: Sequence[float32],
    weight: Sequence[float32],
    votes: Sequence[float32],
    shares: Sequence[float32],
    lambda_: float32,
    normalize: bool,
    undecided: float32,
) -> float32:
    """Elect one sign for each entry; average the deltas of the parents that agree with it, by their weights.

    deltas, weight, votes, shares: one float32 per parent, in recipe order.  The sign is that of sum(votes * delta); a parent
    agrees whose votes * delta has it, which a delta of 0 never has.  Returns lambda * the agreeing weight * delta, added up
    and, with `normalize`, divided by the sum of the agreeing shares where that is not 0.

    Three published forms: mergekit's, the default (votes and shares are the weights, and an undecided entry elects plus);
    PEFT's, `elect: plain, divide: count, undecided: none`; and the authors', `trim_scope: model, elect: plain, divide: count`,
    where an undecided entry takes the sign that most entries of the model elected: `undecided: minus` when that is minus.
    """
    sign = elected_sign(deltas, votes, undecided)
    total = divisor = float32(0)
    for delta, w, vote, share in zip(deltas, weight, votes, shares):
        if delta * vote * sign > 0:
            total += delta * w
            divisor += share
    return lambda_ * (total / divisor if normalize and divisor != 0 else total)


SIGN_CONSENSUS: MergeMethod = recorded(
    "sign_consensus",
    sign_consensus,
    parameters=SignConsensusParameters,
    operand="delta",
    measure=_election,
    passes=0,
    paper="Yadav et al. 2023, TIES-Merging, arXiv:2306.01708",
)

register_combine(SIGN_CONSENSUS)
register(
    compose(
        SIGN_CONSENSUS,
        MAGNITUDE,
        name="ties",
        about="Trim each delta to its largest entries, elect a sign for each entry, average the parents that agree.",
    )
)
register(
    compose(
        SIGN_CONSENSUS,
        RANDOM,
        name="dare_ties",
        about="Drop entries of each delta at random, elect a sign for each entry, add the parents that agree.",
        normalize=False,
    )
)
register(
    compose(
        SIGN_CONSENSUS,
        DELLA,
        name="della",
        about="Drop entries of each delta at random, small ones rather, elect a sign, average the parents that agree.",
    )
)
register(
    compose(
        SIGN_CONSENSUS,
        BREADCRUMBS,
        name="breadcrumbs_ties",
        about="Drop the largest and the smallest entries of each delta, elect a sign, add the parents that agree.",
        normalize=False,
    )
)
