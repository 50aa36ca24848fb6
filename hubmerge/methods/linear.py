"""Weighted averages of parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from numpy import float32
from pydantic import Field

from hubmerge.method import Parameters, PerParent, entrywise, merge_method
from hubmerge.method_parameters import refuse_weights_without_sum

__all__ = ["LinearParameters", "linear"]


class LinearParameters(Parameters):
    weight: PerParent[float] = Field(1.0, description="share of this parent")
    normalize: bool = Field(True, description="divide the weights by their sum")


def _weights_have_a_sum(values: Mapping[str, Any]) -> None:
    if values["normalize"]:
        refuse_weights_without_sum(values["weight"], switch="normalize")


@merge_method(
    "linear",
    parameters=LinearParameters,
    operand="weight",
    check=_weights_have_a_sum,
    paper="Wortsman et al. 2022, Model soups, arXiv:2203.05482",
)
@entrywise
def linear(weights: Sequence[float32], weight: Sequence[float32], normalize: bool) -> float32:
    """Average the parents' entries, weighted.

    weights, weight: one float32 per parent, in recipe order.  Returns sum(weight * entry), divided by sum(weight) when
    `normalize`.
    """
    total = share = float32(0)
    for entry, w in zip(weights, weight):
        total += entry * w
        share += w
    return total / share if normalize else total
