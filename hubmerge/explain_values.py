"""Parameters as one would say them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["values_text"]


def values_text(parameters: Mapping[str, Any]) -> str:
    """Parameters by name: ``weight 0.5, density 0.2 to 0.8``."""
    return ", ".join(f"{name} {_value_text(value)}" for name, value in parameters.items())


def _value_text(value: Any) -> str:
    """A parameter as one would say it: ``0.5``, ``0.2 to 0.8``, ``1 in mlp; 0.3 elsewhere``."""
    if isinstance(value, Mapping):
        pattern = value.get("filter")
        place = "elsewhere" if pattern in (None, "*") else f"in {pattern}"
        return f"{_value_text(value.get('value'))} {place}"
    if isinstance(value, list | tuple):
        if any(isinstance(item, Mapping) for item in value):
            rows = [item if isinstance(item, Mapping) else {"value": item} for item in value]
            return "; ".join(map(_value_text, rows))
        return " to ".join(map(_value_text, value))
    return str(value).lower() if isinstance(value, bool) else str(value)
