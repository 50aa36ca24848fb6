"""The words of merges of LoRA adapters: bases, what a missing module means, and PEFT's combinations with their parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, get_args

from pydantic import Field

from hubmerge.method_parameters import Parameters, PerParent

__all__ = [
    "BASES",
    "COMBINATIONS",
    "Basis",
    "Combination",
    "CombinationParameters",
    "Missing",
    "SumParameters",
    "has_cross_terms",
    "is_thinned",
]

Basis = Literal["knots", "core"]
BASES: tuple[Basis, ...] = get_args(Basis)
Missing = Literal["zero", "intersect", "error"]
"""A module that some adapters leave alone: they change nothing there, it is left out, or it is refused."""

_THINNED = ("ties", "dare_linear", "dare_ties", "magnitude_prune")
COMBINATIONS: Mapping[str, str] = MappingProxyType(
    {
        "cat": "the factors one after the other: the exact weighted sum, at the sum of the ranks",
        "svd": "the exact weighted sum, cut to the largest of the ranks",
        "linear": "A and B added up apart, with the roots of the weights",
        **{name: f"{name} on A and on B apart" for name in _THINNED},
        **{f"{name}_svd": f"{name} on the dense changes, cut to the largest of the ranks" for name in _THINNED},
    }
)
"""Every combination of PEFT, in a sentence."""


class SumParameters(Parameters):
    """The parameters of those of PEFT's combinations that keep all entries."""

    weight: PerParent[float] = Field(1.0, description="what an adapter's change is multiplied with")


class CombinationParameters(SumParameters):
    """The parameters of all of them, by hubmerge's names where it has one."""

    density: float = Field(1.0, ge=0, le=1, description="the share of entries that is kept")
    majority_sign_method: Literal["total", "frequency"] = Field(
        "total", description="an entry's sign: that of the sum, or that of most adapters"
    )


@dataclass(frozen=True)
class Combination:
    """One of `COMBINATIONS` as a recipe's method.  revision: raised whenever its numbers change."""

    name: str
    parents: tuple[int, int | None] = (1, None)
    revision: int = 1
    paper: str = "PEFT, LoraModel.add_weighted_adapter"

    @property
    def summary(self) -> str:
        return COMBINATIONS[self.name]

    @property
    def parameters(self) -> type[Parameters]:
        return CombinationParameters if is_thinned(self.name) else SumParameters


def has_cross_terms(name: str) -> bool:
    """Whether a combination multiplies one adapter's B with another's A."""
    return name in {"linear", *_THINNED}


def is_thinned(name: str) -> bool:
    """Whether `density` means something to a combination."""
    return name.removesuffix("_svd") in _THINNED
