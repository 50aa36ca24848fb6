"""A call of `merge_state_dicts` as a recipe: lists of values go to their parents, and faults are told in the call's words."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from hubmerge.errors import RecipeError
from hubmerge.method import MergeMethod
from hubmerge.recipe import Recipe
from hubmerge.stages import method_of
from zoo_index.errors import HubmergeError
from zoo_index.reference import ModelRef

__all__ = ["BASE", "in_the_words_of_the_call", "known_method", "recipe_of_call"]

BASE = "base"
"""The name of the base's state dict."""


def recipe_of_call(
    name: str, places: tuple[str, ...], has_base: bool, parameters: Mapping[str, Any], seed: int, dtype: Any
) -> Recipe:
    """The call as a recipe.

    places: the names of the parents' state dicts, `BASE` where the base is one of them.  A list of numbers in `parameters` is
    one for each of them.  Raises `RecipeError` for all faults together, in the words of the call.
    """
    if not isinstance(parameters, Mapping):
        raise RecipeError(
            "parameters must be a mapping of names to values",
            where="parameters",
            hint='write parameters={"weight": 0.5}',
        )
    own: list[dict[str, Any]] = [{} for _ in places]
    shared: dict[str, Any] = dict(parameters)
    faults: list[HubmergeError] = []
    told: set[str] = set()  # places and sentences that say again what `faults` holds
    method = known_method(name, parameters)
    if method is not None:
        base_fault = _base_fault(method, has_base)
        if base_fault is not None:
            faults.append(base_fault)
            told.add("base")
        for key in parameters:
            try:
                _spread(method, key, own, shared)
            except RecipeError as fault:
                faults.append(fault)
                told |= {f"parameters.{key}", f"parameter {key} is missing"}
    models = [{"model": ModelRef(place), "parameters": row} for place, row in zip(places, own, strict=True)]
    raw = {"merge_method": name, "models": models, "parameters": shared, "seed": seed}
    raw |= {"base_model": ModelRef(BASE)} if has_base else {}
    raw |= {"dtype": _dtype_name(dtype)} if dtype is not None else {}
    try:
        recipe = Recipe.parse(raw, where="")
    except RecipeError as error:
        recipe = None
        others = [in_the_words_of_the_call(fault, places) for fault in error.faults]
        faults += [fault for fault in others if fault.where not in told and fault.message not in told]
    if recipe is None or faults:
        raise RecipeError.of(faults)
    return recipe


def known_method(name: Any, parameters: Any = None) -> MergeMethod | None:
    """The method called `name`; None when there is none, which `recipe_of_call` tells with the other faults.

    parameters: the call's, which say what a wrapper has inside.
    """
    try:
        return method_of(name, None, None, parameters) if isinstance(name, str) else None
    except RecipeError:
        return None


def _base_fault(method: MergeMethod, has_base: bool) -> HubmergeError | None:
    if has_base and method.base == "none" and method.parents[1] == 1:
        return RecipeError(f"{method.name} knows no base model", where="base", hint="leave it out")
    if not has_base and method.base == "start":
        hint = "base=parents[0] starts from the first"
        return RecipeError(f"{method.name} starts from one of its parents, and none is named", where="base", hint=hint)
    if not has_base and method.base == "required":
        hint = "give the state dict that they were all trained from"
        return RecipeError(
            f"{method.name} merges what parents learned on top of a base, and none is given", where="base", hint=hint
        )
    return None


def _spread(method: MergeMethod, key: str, own: list[dict[str, Any]], shared: dict[str, Any]) -> None:
    """Take parameter `key` from `shared` and give each parent its value, where there is a list of them."""
    if hasattr(shared[key], "tolist"):  # numbers of numpy or torch
        shared[key] = shared[key].tolist()
    value = shared[key]
    fields = {method.parameters.alias(field): field for field in method.parameters.model_fields}
    if not isinstance(value, list | tuple) or any(isinstance(item, Mapping) for item in value) or key not in fields:
        return
    if fields[key] not in method.parameters.per_parent():
        raise RecipeError(
            f"{key} is one value for all parents, got a list of {len(value)}",
            where=f"parameters.{key}",
            hint="gradients over depth are for recipes",
        )
    if len(value) != len(own):
        raise RecipeError(
            f"{key} has {len(value)} values for {len(own)} parent{'s' * (len(own) != 1)}",
            where=f"parameters.{key}",
            hint="give one number for all, or one for each parent in order, the base not counted",
        )
    del shared[key]
    for row, item in zip(own, value, strict=True):
        row[key] = item


def _dtype_name(dtype: Any) -> str:
    """The name of a dtype of torch (``torch.bfloat16``), of numpy (a type or a dtype), or as text."""
    if isinstance(dtype, type) and issubclass(dtype, np.generic):
        return np.dtype(dtype).name
    return str(dtype)


_OWN_PARAMETER = re.compile(r"models\[(\d+)\]\.parameters\.(.+)")
_PLACES = {"models": "parents", "base_model": "base", "merge_method": "name"}


def in_the_words_of_the_call(fault: HubmergeError, places: tuple[str, ...]) -> HubmergeError:
    """A fault of a recipe or a plan, with the places that the caller knows."""
    where = fault.where.removeprefix(": ")
    where = _PLACES.get(where, where)
    if where == "base" and "is not among" in fault.message:
        return RecipeError(
            "the base is not among the parents, and the method averages all it is given",
            where="base",
            hint="give it as one of the parents, with a weight of its own, or leave it out",
        )
    own = _OWN_PARAMETER.fullmatch(where)
    if own:
        where = f"parameters.{own[2]} of {places[int(own[1])]}"
    return type(fault)(fault.message.replace("the recipe has", "there are"), where=where, hint=fault.hint)
