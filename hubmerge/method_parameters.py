"""A method's parameters: one pydantic model per method, whose fields are shared or each parent's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict

from hubmerge.errors import RecipeError

__all__ = [
    "Parameters",
    "Parametrised",
    "PerParent",
    "Values",
    "all_checks",
    "refuse_weights_without_sum",
    "weight_shares",
]

T = TypeVar("T")


class _PerParentMark:
    """Marks a parameter that every parent has its own value of."""


PerParent = Annotated[T, _PerParentMark]


class Parameters(BaseModel):
    """A method's parameters, one tensor's worth: a `PerParent` field holds one parent's value.

    Names are mergekit's; a field that would be a Python keyword carries its mergekit name as alias (``lambda``).
    What checks them is built for a method that is used: building all takes a thirtieth of the start.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, allow_inf_nan=False, defer_build=True)

    @classmethod
    def per_parent(cls) -> frozenset[str]:
        """The fields of which every parent has its own value."""
        return frozenset(name for name, field in cls.model_fields.items() if _PerParentMark in field.metadata)

    @classmethod
    def alias(cls, field: str) -> str:
        """The name of `field` in a recipe."""
        return cls.model_fields[field].alias or field


class Parametrised(Protocol):
    """What has parameters in a recipe: a method, or an assembly of unlike models; parents: fewest and most of them."""

    @property
    def name(self) -> str: ...

    @property
    def parameters(self) -> type[Parameters]: ...

    @property
    def parents(self) -> tuple[int, int | None]: ...


Values = Mapping[str, Any]
"""One tensor's parameters by field: `PerParent` ones as tuples over the parents."""


def all_checks(*checks: Callable[[Values], None] | None) -> Callable[[Values], None]:
    """One check that makes all of these which are there, in their order."""

    def check(values: Values) -> None:
        for one in checks:
            if one is not None:
                one(values)

    return check


def weight_shares(parameters: Values, parents: int) -> tuple[float, ...]:
    """Coefficients that sum to 1, for averaging running statistics: `weight` normalised; equal when that is no average."""
    weights = parameters.get("weight", (1.0,) * parents)
    total = sum(weights)
    if total <= 0 or min(weights) < 0:
        return (1.0 / parents,) * parents
    return tuple(weight / total for weight in weights)


def refuse_weights_without_sum(weights: Sequence[float], *, switch: str) -> None:
    """`RecipeError` for weights that are to be divided by a sum of zero; switch: the parameter that asks for it."""
    if abs(sum(weights)) <= 1e-6 * sum(map(abs, weights)):
        raise RecipeError(
            f"weights {list(weights)} sum to zero, so they cannot be normalised",
            where="parameters.weight",
            hint=f"change the weights, or set {switch}: false to add them as they are",
        )
