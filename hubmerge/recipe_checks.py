"""What is wrong with a recipe beyond its spelling, as far as it shows without the models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hubmerge.errors import RecipeError
from hubmerge.method import MergeMethod, get_method, parameter_values
from hubmerge.parameters import parse_parameters
from zoo_index.errors import HubmergeError

if TYPE_CHECKING:
    from hubmerge.recipe import Recipe

__all__ = ["method_faults", "model_faults", "value_faults"]


def method_faults(raw: Mapping[str, Any]) -> list[HubmergeError]:
    """Faults of the method's name and of all parameters; tolerant of whatever else is wrong."""
    name = raw.get("merge_method")
    if not isinstance(name, str):
        return []
    try:
        method = get_method(name)
    except RecipeError as fault:
        return [fault]
    listed = raw.get("models")
    entries = [entry if isinstance(entry, Mapping) else {} for entry in listed] if isinstance(listed, list) else []
    models = [(str(entry.get("model")), _mapping(entry.get("parameters"))) for entry in entries]
    _, faults, _ = parse_parameters(method, models, _mapping(raw.get("parameters")))
    return list(faults)


def _mapping(value: Any) -> Mapping[Any, Any]:
    return value if isinstance(value, Mapping) else {}


def model_faults(recipe: Recipe) -> list[HubmergeError]:
    """Faults in the number and choice of models and of the tokenizer; the method's name is known to be right."""
    method, listed = recipe.method, [entry.model for entry in recipe.models]
    faults: list[HubmergeError] = [
        RecipeError(f"{model} is listed twice", where="models", hint="list each model once, with its weight")
        for model in dict.fromkeys(model for model in listed if listed.count(model) > 1)
    ]
    base = _base_fault(recipe, method)
    faults += [base] if base else []
    if not faults:
        faults += _count_faults(recipe, method)
    source = recipe.tokenizer_source
    if source == "base" and recipe.base_model is None:
        hint = "name one of the models instead"
        faults.append(
            RecipeError(
                "the tokenizer of base is asked for, and no base_model is named", where="tokenizer_source", hint=hint
            )
        )
    elif source not in {None, "base", "union", *_names(recipe)}:
        hint = "write base, or one of " + ", ".join(map(str, recipe.references))
        faults.append(RecipeError(f"{source} is none of the models", where="tokenizer_source", hint=hint))
    return faults


def _names(recipe: Recipe) -> set[str]:
    return {str(name) for reference in recipe.references for name in (reference, reference.model)}


def _base_fault(recipe: Recipe, method: MergeMethod) -> HubmergeError | None:
    base = recipe.base_model
    if base is None and method.base != "none":
        what = "starts from a base model" if method.base == "start" else "merges what parents learned on top of a base"
        return RecipeError(
            f"{method.name} {what}, and none is named",
            where="base_model",
            hint="add base_model: the model they were all trained from",
        )
    listed = {entry.model for entry in recipe.models}
    averages = method.base == "none" and "weight" in method.parameters.model_fields
    if base is not None and averages and base not in listed and not recipe.base_is_averaged_in:
        return RecipeError(
            f"base_model {base} is not among the models, and {method.name} averages all it is given",
            where="base_model",
            hint="list it under models with a weight, or remove base_model",
        )
    return None


def _count_faults(recipe: Recipe, method: MergeMethod) -> list[HubmergeError]:
    fewest, most = method.parents
    parents = recipe.parents
    if fewest <= len(parents) and (most is None or len(parents) <= most):
        return []
    wanted = str(fewest) if fewest == most else f"at least {fewest}" if most is None else f"{fewest} to {most}"
    plural = "" if wanted.endswith(" 1") or wanted == "1" else "s"
    beside = (
        " beside the base" if method.base == "required" else ", the base among them" if method.base == "start" else ""
    )
    names = ", ".join(map(str, parents))
    hint = f"given: {names}" if names else "list models other than base_model"
    return [
        RecipeError(
            f"{method.name} takes {wanted} model{plural}{beside}; the recipe has {len(parents)}",
            where="models",
            hint=hint,
        )
    ]


def value_faults(recipe: Recipe) -> list[HubmergeError]:
    """Faults of values that do not go together, where they are the same in every tensor; the plan sees the others."""
    scopes, method = recipe.scopes, recipe.method
    if not scopes.is_constant:
        return []
    rows = [scopes.resolve(method, parent, "", 0.0) for parent in recipe.parents]
    try:
        if method.check is not None:
            method.check(parameter_values(method, rows))
    except RecipeError as fault:
        return [fault]
    return []
