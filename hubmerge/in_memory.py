"""`merge_state_dicts`: merge tensors that are in memory already, by the plan and the kernels of a merge on disk."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hubmerge.errors import PlanError, RecipeError
from hubmerge.execute import execute
from hubmerge.in_memory_tensors import Kind, MemoryInputs, StateDict, tensor_of
from hubmerge.method import MergeMethod, get_method
from hubmerge.parents import parent_of
from hubmerge.plan import plan_models
from hubmerge.plan_types import Plan, Step
from hubmerge.recipe import Recipe
from zoo_index.errors import HubmergeError
from zoo_index.reference import ModelRef

__all__ = ["merge_state_dicts"]

_UNBOUNDED = 1 << 62
_BASE = "base"


def merge_state_dicts(
    name: str,
    parents: Sequence[Mapping[str, Any]],
    base: Mapping[str, Any] | None = None,
    parameters: Mapping[str, Any] | None = None,
    *,
    seed: int = 0,
    dtype: Any = None,
    jobs: int | None = None,
) -> dict[str, Any]:
    """Merge state dicts (names to tensors) by the method `name`: the same bytes as `merge` of the saved models.

    parents: the models to merge, in order; tensors of torch or of numpy, not of both.  base: the model they come from, for
    methods that need one; it is not among the parents.  Only slerp starts from one of its two parents: give that one as
    `base` too, or give it as `base` and the other alone as parent.
    parameters: mergekit's names.  A number is for all parents; a list of numbers has one for each, in the order of `parents`
    (gradients over depth are for recipes); a list of mappings chooses by tensor name as in a recipe:
    ``[{"filter": "mlp", "value": 0.8}, {"value": 0.5}]``.  seed: of random methods, which tell parents apart by their place.
    dtype: "float32", "float16", "bfloat16" or such a dtype of torch or numpy; default: the parents' own, float32 for a tensor
    that they hold in different ones.  jobs: threads, default the cores at hand.

    Returns new tensors of the parents' kind (torch: on the device of the first parent's) under the first parent's names, or
    the base's, in their order; names that are one memory in every model stay one tensor.  The inputs are never changed.
    What a plan would warn of is a `UserWarning`.  Raises `RecipeError` and `PlanError` for all faults together before
    anything is computed, and `MergeError` for numbers that are not finite.
    """
    listed, places = _listed(name, parents, base)
    shared_names = _one_memory([*listed.values()])
    faults: list[HubmergeError] = []
    models: dict[str, StateDict] = {}
    for place, tensors in listed.items():
        try:
            models[place] = StateDict(place, tensors, leave_out=shared_names)
        except PlanError as fault:
            faults += fault.faults
    kinds: set[Kind] = {kind for model in models.values() for kind in model.kinds.values()}
    if len(kinds) > 1:
        faults.append(
            PlanError("some tensors are torch's, others numpy's", where="parents", hint="convert them to one kind")
        )
    try:
        recipe = _recipe(name, places, _BASE in listed, parameters or {}, seed, dtype)
    except RecipeError as fault:
        faults += fault.faults
    if faults:
        raise _together(faults)
    return _merged(recipe, models, kinds.pop() if kinds else "numpy", shared_names, jobs)


def _listed(
    name: str, parents: Sequence[Mapping[str, Any]], base: Mapping[str, Any] | None
) -> tuple[dict[str, Mapping[str, Any]], tuple[str, ...]]:
    """Every model under the name that errors call it by, the base's first; and the names of those that are merged."""
    if isinstance(parents, Mapping) or not isinstance(parents, Sequence):
        raise RecipeError("parents must be a list of state dicts", where="parents", hint="parents=[first, second]")
    if not parents:
        raise RecipeError("no parents are given", where="parents", hint="parents=[first, second]")
    own = {f"parents[{i}]": tensors for i, tensors in enumerate(parents)}
    method = _known(name)
    if base is None:
        return own, tuple(own)
    same = next((place for place, tensors in own.items() if tensors is base), None)
    if method is not None and method.base == "start":
        same = same or next((place for place, tensors in own.items() if _equal(tensors, base)), None)
        if same is None:
            return {_BASE: base, **own}, (_BASE, *own)
        rest = {place: tensors for place, tensors in own.items() if place != same}
        return {_BASE: base, **rest}, tuple(_BASE if place == same else place for place in own)
    if same is not None and method is not None:
        if method.base == "none":  # it is merged as what it is, one of the parents
            return own, tuple(own)
        text = f"{same} is the base itself, and is merged as a parent that learned nothing; leave it out"
        warnings.warn(text, stacklevel=3)
    return {_BASE: base, **own}, tuple(own)


def _equal(one: Any, other: Any) -> bool:
    if not (isinstance(one, Mapping) and isinstance(other, Mapping)) or one.keys() != other.keys():
        return False
    try:
        left, right = StateDict("one", one), StateDict("other", {name: other[name] for name in one})
    except PlanError:
        return False
    return left.read("header") == right.read("header") and all(
        np.array_equal(left.bytes_of(name), right.bytes_of(name)) for name in left.tensors
    )


def _one_memory(models: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Names that in every model are the memory of an earlier name (tied weights), with that name."""
    found: dict[str, str] | None = None
    for model in models:
        try:
            tensors = StateDict("", model)
        except PlanError:
            return {}  # told with the other faults
        first: dict[tuple[Any, ...], str] = {}
        own = {name: first.setdefault(tensors.place(name), name) for name in tensors.tensors}
        tied = {name: kept for name, kept in own.items() if name != kept}
        found = tied if found is None else {name: kept for name, kept in found.items() if tied.get(name) == kept}
    return found or {}


def _recipe(
    name: str, places: tuple[str, ...], has_base: bool, parameters: Mapping[str, Any], seed: int, dtype: Any
) -> Recipe:
    """The call as a recipe; its faults in the call's words."""
    if not isinstance(parameters, Mapping):
        raise RecipeError("parameters must be a mapping of names to values", where="parameters")
    own: list[dict[str, Any]] = [{} for _ in places]
    shared: dict[str, Any] = dict(parameters)
    faults: list[HubmergeError] = []
    told: set[str] = set()  # places and sentences that say again what `faults` holds
    method = _known(name)
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
    raw |= {"base_model": ModelRef(_BASE)} if has_base else {}
    raw |= {"dtype": _dtype_name(dtype)} if dtype is not None else {}
    try:
        recipe = Recipe.parse(raw, where="")
    except RecipeError as error:
        recipe = None
        others = [_in_the_words_of_the_call(fault, places) for fault in error.faults]
        faults += [fault for fault in others if fault.where not in told and fault.message not in told]
    if recipe is None or faults:
        raise RecipeError.of(faults)
    return recipe


def _known(name: str) -> MergeMethod | None:
    try:
        return get_method(name)
    except RecipeError:  # reading the recipe tells it, with the other faults
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
    value = shared[key].tolist() if isinstance(shared[key], np.ndarray) else shared[key]
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


def _in_the_words_of_the_call(fault: HubmergeError, places: tuple[str, ...]) -> HubmergeError:
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


def _merged(
    recipe: Recipe, models: Mapping[str, StateDict], kind: Kind, one_memory: Mapping[str, str], jobs: int | None
) -> dict[str, Any]:
    ordered = [models[reference.name] for reference in recipe.references]
    plan = _plan(recipe, ordered, jobs)
    _check_numpy_knows(plan, kind)
    for warning in plan.warnings:
        warnings.warn(warning, stacklevel=3)
    data = {step.output.name: np.empty(step.output.nbytes, np.uint8) for step in plan.steps}

    def sink(step: Step, first: int, entries: npt.NDArray[Any]) -> None:
        start = first * entries.itemsize
        data[step.output.name][start : start + entries.nbytes] = entries.view(np.uint8)

    most = max(len(step.inputs) for step in plan.steps)
    execute(plan, sink, jobs=jobs, inputs=MemoryInputs(plan.parents, ordered, keep=plan.jobs * most))
    donor = models[_BASE] if _BASE in models else ordered[0]
    devices = {name: getattr(value, "device", None) for name, value in donor.tensors.items()}
    outputs = {step.output.name: step.output for step in plan.steps}
    merged = {name: tensor_of(data.pop(name), outputs[name], kind, devices[name]) for name in donor.tensors}
    return merged | {name: merged[kept] for name, kept in one_memory.items()}


def _check_numpy_knows(plan: Plan, kind: Kind) -> None:
    for dtype in dict.fromkeys(step.output.dtype.torch_name for step in plan.steps) if kind == "numpy" else ():
        try:
            np.dtype(dtype)
        except TypeError:
            hint = "import ml_dtypes, which adds it; or ask for float32, or give torch tensors"
            raise PlanError(f"numpy has no {dtype}", where="dtype", hint=hint) from None


def _plan(recipe: Recipe, models: Sequence[StateDict], jobs: int | None) -> Plan:
    faults: list[HubmergeError] = []
    opened = []
    for reference, model in zip(recipe.references, models, strict=True):
        try:
            opened.append(parent_of(reference, model))
        except HubmergeError as fault:
            faults += fault.faults
    if not faults:
        try:
            return plan_models(recipe, opened, jobs=jobs, memory=_UNBOUNDED)
        except HubmergeError as fault:
            faults += fault.faults
    places = tuple(str(reference) for reference in recipe.references)
    raise _together([_in_the_words_of_the_call(fault, places) for fault in faults])


def _together(faults: Sequence[HubmergeError]) -> HubmergeError:
    """One error for all faults: of the recipe's kind where all of them are, else of the plan's."""
    if len(faults) == 1:
        return faults[0]
    return (RecipeError if all(isinstance(fault, RecipeError) for fault in faults) else PlanError).of(faults)
