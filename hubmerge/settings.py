"""A parameter's value in a recipe, as mergekit writes it: one number, a gradient over depth, or a choice by tensor name.

density: 0.5                                    the same everywhere
density: [0.2, 0.8]                             a gradient: first layer to last, piecewise linear
density: [{filter: mlp, value: 0.8}, {value: 0.5}]    by substring of the tensor's name; the first match wins
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hubmerge.errors import shown

__all__ = ["Setting", "parse_setting"]


@dataclass(frozen=True, slots=True)
class Setting:
    """Parsed value: `rows` of (filter, gradient); a constant is a gradient of one value without filter."""

    rows: tuple[tuple[str | None, tuple[Any, ...]], ...]

    @property
    def has_gradient(self) -> bool:
        return any(len(values) > 1 for _, values in self.rows)

    @property
    def is_constant(self) -> bool:
        """Whether every tensor gets the same value."""
        return all(pattern in (None, "*") and len(values) == 1 for pattern, values in self.rows)

    def idle_filters(self, names: Collection[str], kind: str) -> tuple[str, ...]:
        """What is to be said of filters that choose no value for any of `names`, which are those of tensors or of another `kind`."""
        said, left = [], set(names)
        for pattern, _ in self.rows:
            if pattern in (None, "*"):
                left = set()
                continue
            fitting = [name for name in names if pattern in name]
            if not fitting:
                said.append(f"filter {pattern!r} is part of no {kind}'s name")
            elif left.isdisjoint(fitting):
                said.append(f"filter {pattern!r} is never reached: what stands before it takes its {kind}s")
            left.difference_update(fitting)
        return tuple(said)

    def resolve(self, tensor_name: str, depth: float) -> Any:
        """The value for one tensor, or None when no filter matches, or one whose list of values is empty.

        depth: 0 for the first layer (and what comes before), 1 for the last (and what comes after).  Between two
        numbers of a gradient the value is interpolated; of other types the lower neighbour is taken.
        """
        for pattern, values in self.rows:
            if pattern is None or pattern == "*" or pattern in tensor_name:
                if not values:
                    return None
                position = depth * (len(values) - 1)
                low = min(int(position), len(values) - 1)
                high = min(low + 1, len(values) - 1)
                if isinstance(values[low], bool) or not isinstance(values[low], (int, float)):
                    return values[low]
                return values[low] if low == high else values[low] + (position - low) * (values[high] - values[low])
        return None

    def leaves(self) -> tuple[Any, ...]:
        """Every single value, in order."""
        return tuple(value for _, values in self.rows for value in values)


def parse_setting(raw: Any, check: Callable[[Any], Any]) -> Setting:
    """Read a value of a recipe; `check` parses one leaf and raises ValueError.

    An empty list is no value: the next scope speaks, as in mergekit.  Raises ValueError for a mapping without `value`, or
    a list that mixes values and filters wrongly.
    """
    if isinstance(raw, Mapping):
        return Setting((_filtered(raw, check),))
    if isinstance(raw, Sequence) and not isinstance(raw, str):
        if any(isinstance(item, Mapping) for item in raw):
            return Setting(tuple(_filtered(item, check) for item in raw))
        return Setting(((None, tuple(check(item) for item in raw)),))
    return Setting(((None, (check(raw),)),))


def _filtered(item: Any, check: Callable[[Any], Any]) -> tuple[str | None, tuple[Any, ...]]:
    if not isinstance(item, Mapping):
        return (None, _values(item, check))
    unknown = set(item) - {"filter", "value"}
    if unknown or "value" not in item:
        raise ValueError(f"expected filter and value, got {', '.join(map(str, item)) or 'an empty mapping'}")
    pattern = item.get("filter")
    if pattern is not None and not isinstance(pattern, str):
        raise ValueError(f"filter must be a part of a tensor's name, got {shown(pattern)}")
    return (pattern, _values(item["value"], check))


def _values(raw: Any, check: Callable[[Any], Any]) -> tuple[Any, ...]:
    if isinstance(raw, Sequence) and not isinstance(raw, str):
        return tuple(check(item) for item in raw)
    return (check(raw),)
