"""What is wrong with a recipe that merges single layers into a base, as far as it shows without the models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hubmerge.errors import RecipeError, shown

if TYPE_CHECKING:
    from hubmerge.recipe import Recipe
    from zoo_index.errors import HubmergeError

__all__ = ["mal_faults", "mal_value_faults"]

_ALIGN = frozenset({"min_similarity", "without"})
"""Keys of `align` that mean something here."""
_USUAL = {"method": "activations", "widths": "base"}
"""What other keys of `align` may say, since it is done anyway."""


def mal_value_faults(raw: Mapping[str, Any]) -> list[HubmergeError]:
    """Faults of `factors`, the one parameter that is a list; `raw` may be wrong in any other way."""
    own = raw.get("parameters")
    value = own.get("factors") if isinstance(own, Mapping) else None
    if value is None:
        return []
    where, hint = "parameters.factors", "write factors: [0.1, 0.3]"
    if not isinstance(value, list | tuple) or not value:
        return [RecipeError(f"factors must be a list of shares, got {shown(value)}", where=where, hint=hint)]
    odd = [each for each in value if not isinstance(each, int | float) or isinstance(each, bool) or not 0 <= each <= 1]
    if odd:
        return [RecipeError(f"factors are shares from 0 to 1, got {shown(odd[0])}", where=where, hint=hint)]
    return []


def mal_faults(recipe: Recipe) -> list[HubmergeError]:
    """Faults in the models and stages of a recipe whose parts are right one by one."""
    models = tuple(entry.model for entry in recipe.models)
    faults: list[HubmergeError] = [
        RecipeError(f"{model} is listed twice", where="models", hint="list each donor once")
        for model in dict.fromkeys(model for model in models if models.count(model) > 1)
    ]
    if recipe.base_model is None:
        hint = "add base_model: the model whose architecture, widths and head stay"
        faults.append(
            RecipeError("mal merges layers into a base model, and none is named", where="base_model", hint=hint)
        )
    elif all(model == recipe.base_model for model in models) and recipe.zoo is None:
        hint = "list donors under models, or find them in a catalog: zoo: {text: words}"
        message = "mal takes layers of at least 1 donor, and there is none beside the base"
        faults.append(RecipeError(message, where="models", hint=hint))
    return [*faults, *_align_faults(recipe), *_probe_faults(recipe)]


def _align_faults(recipe: Recipe) -> list[RecipeError]:
    given = (
        {} if recipe.align is None else {name: getattr(recipe.align, name) for name in recipe.align.model_fields_set}
    )
    faults = []
    for name, value in given.items():
        if name in _ALIGN or value is None or value == _USUAL.get(name):
            continue
        if name == "method":
            message = f"mal matches units by activations, not by {value}"
            hint = "remove it; without calibration units are matched on noise"
        else:
            message = f"mal keeps the base model's shape, and takes no align.{name}"
            hint = "remove it, or write merge_method: pleas, which merges whole models"
        faults.append(RecipeError(message, where=f"align.{name}", hint=hint))
    return faults


def _probe_faults(recipe: Recipe) -> list[RecipeError]:
    if recipe.probe is not None:
        return []
    hint = "add probe: {data: file.npz, labels: column}"
    faults = []
    if recipe.parameters.get("choose") == "best":
        message = "the best share is told by a loss, and there is no probe to measure it on"
        faults.append(RecipeError(message, where="parameters.choose", hint=hint))
    if recipe.parameters.get("eps") is not None:
        message = "eps limits the loss on a probe, and there is none"
        faults.append(RecipeError(message, where="parameters.eps", hint=f"{hint}, or remove eps"))
    return faults
