"""`MergedState`: a merge in memory that gives more than weights: what the method found on the way."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["MergedState"]


@dataclass(frozen=True, eq=False)
class MergedState(Mapping[str, Any]):
    """The merged tensors, which it is a mapping of (``model.load_state_dict(dict(merged))``), and what came beside them.

    masks: for methods that keep some entries of each parent, by tensor; else empty.  coefficients: by tensor one number for each parent,
    in their order: what the parent's `weight` was multiplied with.  state: what else the method tells, by its own words, as plain values.
    """

    tensors: Mapping[str, Any]
    masks: Mapping[str, Any] = field(default_factory=dict)
    coefficients: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    state: Mapping[str, Any] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Any:
        return self.tensors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.tensors)

    def __len__(self) -> int:
        return len(self.tensors)

    def __repr__(self) -> str:
        return f"MergedState({len(self.tensors)} tensors, coefficients of {len(self.coefficients)})"
