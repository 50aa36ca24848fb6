"""What is wrong with a recipe for a wrapper, as far as it shows without the models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hubmerge.errors import RecipeError
from hubmerge.method import MergeMethod

__all__ = ["misplaced_data", "wrapper_faults"]


def misplaced_data(raw: Mapping[str, Any], method: str, *, takes: bool = False) -> list[RecipeError]:
    """A fault for each `calibration` beside a model in the recipe of a method without use for it; `raw` may be wrong in any other way."""
    listed = raw.get("models")
    return [
        RecipeError(
            f"calibration beside a model is for methods that run each model on its own data, which {method} does not",
            where=f"models[{i}].calibration",
            hint="remove it, or write merge_method: sens_merging or adamerging",
        )
        for i, entry in enumerate(listed if isinstance(listed, list | tuple) else ())
        if not takes and isinstance(entry, Mapping) and entry.get("calibration") is not None
    ]


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
    if raw.get("calibration") is not None:
        takes = "calibration" in wrapper.takes
        faults.append(
            RecipeError(
                f"{wrapper.name} runs each model on data of its own" if takes else f"{wrapper.name} looks at no data",
                where="calibration",
                hint="write calibration: under each of models" if takes else "remove it",
            )
        )
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
