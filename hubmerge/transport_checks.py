"""What is wrong with a recipe that carries deltas between models, as far as it shows without the models."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from hubmerge.errors import RecipeError

if TYPE_CHECKING:
    from hubmerge.assemblies import Assembly
    from hubmerge.recipe import Recipe

__all__ = ["carrying_faults", "carrying_keys", "misplaced_bases"]

_OTHERS = ("balanced", "zip", "optimal_transport")
"""Ways to match that merge units, where nothing is merged."""
_FIXED = ("widths", "budget", "policy", "ratio")
"""Keys of `align` that say how wide a merge is, which the target decides."""


def misplaced_bases(raw: Mapping[str, Any], method: str) -> list[RecipeError]:
    """A fault for each `base` beside a model in the recipe of a method that carries nothing; `raw` may be wrong in any other way."""
    return [
        RecipeError(
            f"a base beside a model is for merge_method: transport, not for {method}",
            where=f"{place}.base",
            hint="remove it; one base of all models is base_model",
        )
        for place, entry in _entries(raw)
        if entry.get("base") is not None
    ]


def _entries(raw: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    modules = raw.get("modules")
    holders = [("", raw)]
    holders += [(f"modules.{name}.", part) for name, part in modules.items()] if isinstance(modules, Mapping) else []
    for place, holder in holders:
        listed = holder.get("models") if isinstance(holder, Mapping) else None
        for i, entry in enumerate(listed if isinstance(listed, list | tuple) else ()):
            if isinstance(entry, Mapping):
                yield f"{place}models[{i}]", entry


def carrying_keys(assembly: Assembly, raw: Mapping[str, Any]) -> list[RecipeError]:
    """Faults of keys that mean nothing where deltas are carried: the target decides the widths, and nothing is fitted."""
    faults = []
    align = raw.get("align")
    if isinstance(align, Mapping):
        faults += [
            RecipeError(f"{assembly.name} keeps the widths of base_model", where=f"align.{key}", hint="remove it")
            for key in _FIXED
            if align.get(key) is not None
        ]
    method = align.get("method") if isinstance(align, Mapping) else align
    if method in _OTHERS:
        hint = "write align: activations, weights or identity"
        faults.append(RecipeError(f"{assembly.name} does not align by {method}", where="align", hint=hint))
    if raw.get("fit") is not None:
        hint = "remove it, or write merge_method: pleas"
        faults.append(RecipeError(f"{assembly.name} fits no layers", where="fit", hint=hint))
    if raw.get("labels") not in (None, "shared"):
        hint = "remove it: the labels are the target's, and the models have the same ones"
        faults.append(RecipeError(f"{assembly.name} takes labels: shared and no others", where="labels", hint=hint))
    return faults


def carrying_faults(assembly: Assembly, recipe: Recipe) -> list[RecipeError]:
    """Faults in the choice of the target and of the models' own bases."""
    faults = []
    if recipe.base_model is None:
        message = f"{assembly.name} adds to a base model, and none is named"
        faults.append(RecipeError(message, where="base_model", hint="add base_model: the model that is added to"))
    for i, entry in enumerate(recipe.models):
        if entry.base is None:
            message = f"what {entry.model} learned is its difference from its own base, and none is named"
            hint = "add base: beside it, the model that it was trained from"
            faults.append(RecipeError(message, where=f"models[{i}].base", hint=hint))
        elif entry.base == entry.model:
            message = f"{entry.model} is named as its own base"
            hint = "name the model that it was trained from"
            faults.append(RecipeError(message, where=f"models[{i}].base", hint=hint))
        if entry.model == recipe.base_model:
            message = f"base_model {entry.model} is among the models, and it is what is added to"
            faults.append(RecipeError(message, where=f"models[{i}].model", hint="remove it from models"))
    return faults
