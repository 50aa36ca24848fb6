"""Parameters as one would say them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["values_text"]


def values_text(parameters: Mapping[str, Any]) -> str:
    """Parameters by name: ``weight 0.5, density 0.2 to 0.8``."""
    return ", ".join(f"{name} {_value_text(value)}" for name, value in parameters.items())


def _value_text(value: Any) -> str:
    """A parameter as one would say it: ``0.5``, ``0.2 to 0.8``, ``1 in mlp; 0.3 elsewhere``."""
    if isinstance(value, Mapping):
        return _rows_text([value])
    if isinstance(value, list | tuple):
        if any(isinstance(item, Mapping) for item in value):
            return _rows_text([item if isinstance(item, Mapping) else {"value": item} for item in value])
        return " to ".join(map(_value_text, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def _rows_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """A list of filters, as far as it is read: what comes after a row that fits every tensor is never reached."""
    said: list[str] = []
    for row in rows:
        pattern, value = row.get("filter"), _value_text(row.get("value"))
        if pattern in (None, "*"):
            return "; ".join([*said, f"{value} elsewhere"]) if said else value
        said.append(f"{value} in {pattern}")
    return "; ".join(said)
