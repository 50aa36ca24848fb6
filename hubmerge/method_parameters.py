"""A method's parameters: one pydantic model per method, whose fields are shared or each parent's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict

__all__ = ["Parameters", "PerParent", "Values", "weight_shares"]

T = TypeVar("T")


class _PerParentMark:
    """Marks a parameter that every parent has its own value of."""


PerParent = Annotated[T, _PerParentMark]


class Parameters(BaseModel):
    """A method's parameters, one tensor's worth: a `PerParent` field holds one parent's value.

    Names are mergekit's; a field that would be a Python keyword carries its mergekit name as alias (``lambda``).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, allow_inf_nan=False)

    @classmethod
    def per_parent(cls) -> frozenset[str]:
        """The fields of which every parent has its own value."""
        return frozenset(name for name, field in cls.model_fields.items() if _PerParentMark in field.metadata)

    @classmethod
    def alias(cls, field: str) -> str:
        """The name of `field` in a recipe."""
        return cls.model_fields[field].alias or field


Values = Mapping[str, Any]
"""One tensor's parameters by field: `PerParent` ones as tuples over the parents."""


def weight_shares(parameters: Values, parents: int) -> tuple[float, ...]:
    """Coefficients that sum to 1, for averaging running statistics: `weight` normalised; equal when that is no average."""
    weights = parameters.get("weight", (1.0,) * parents)
    total = sum(weights)
    if total <= 0 or min(weights) < 0:
        return (1.0 / parents,) * parents
    return tuple(weight / total for weight in weights)
