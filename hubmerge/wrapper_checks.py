"""What is wrong with a recipe for a wrapper, as far as it shows without the models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hubmerge.errors import RecipeError
from hubmerge.method import MergeMethod

__all__ = ["wrapper_faults"]


def wrapper_faults(method: MergeMethod, raw: Mapping[str, Any]) -> list[RecipeError]:
    """Faults of the keys and of the wrapper's own parameters in a recipe, of which anything else may be wrong; none for other methods."""
    wrapper = method.wrapper
    if wrapper is None:
        return []
    refused = {
        "slices": "list whole models under models: coefficients are found for models, not for stacks of their layers",
        "modules": "list whole models under models",
        "align": f"merge with align and {next(iter(wrapper.inners))}, or align the models by a merge of their own first",
    }
    faults = [
        RecipeError(f"{wrapper.name} takes no {key}", where=key, hint=hint)
        for key, hint in refused.items()
        if raw.get(key) not in (None, [], {})
    ]
    given = raw.get("parameters")
    return faults + [
        RecipeError(
            f"{name} is one value for the whole merge under {wrapper.name}, neither gradient nor filters",
            where=f"parameters.{name}",
            hint="write one value",
        )
        for name in map(wrapper.parameters.alias, wrapper.parameters.model_fields)
        if isinstance(given, Mapping) and isinstance(given.get(name), list | tuple | Mapping) and given[name]
    ]
