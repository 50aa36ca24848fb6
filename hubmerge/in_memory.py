"""`merge_state_dicts`: merge tensors that are in memory already, by the plan and the kernels of a merge on disk."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hubmerge.disentangled_record import equivalents
from hubmerge.errors import PlanError, RecipeError
from hubmerge.execute import execute
from hubmerge.in_memory_data import NOTHING_GIVEN, GivenData, given_data, state_dict_of
from hubmerge.in_memory_recipe import BASE, in_the_words_of_the_call, known_method, recipe_of_call
from hubmerge.in_memory_tensors import Kind, MemoryInputs, StateDict, tensor_of
from hubmerge.merged_state import MergedState
from hubmerge.method import MergeMethod
from hubmerge.parents import parent_of
from hubmerge.plan import plan_models
from hubmerge.plan_types import Plan, Step
from hubmerge.prepare import prepare, with_coefficients
from hubmerge.prologue import pooled_states
from hubmerge.recipe import Recipe
from zoo_index.errors import HubmergeError

__all__ = ["merge_opened", "merge_state_dicts", "plan_opened"]

_UNBOUNDED = 1 << 62


def merge_state_dicts(
    name: str,
    parents: Sequence[Mapping[str, Any]],
    base: Mapping[str, Any] | None = None,
    parameters: Mapping[str, Any] | None = None,
    *,
    calibration: Any = None,
    statistics: Any = None,
    seed: int = 0,
    dtype: Any = None,
    jobs: int | None = None,
) -> dict[str, Any] | MergedState:
    """Merge state dicts (names to tensors) by the method `name`: the same bytes as `merge` of the saved models.

    parents: the models to merge, in order; tensors of torch or of numpy, not of both.  base: the model they come from, for
    methods that need one; it is not among the parents.  Only slerp starts from one of its two parents: give that one as
    `base` too, or give it as `base` and the other alone as parent.
    parameters: mergekit's names.  A number is for all parents; a list of numbers has one for each, in the order of `parents`
    (gradients over depth are for recipes); a list of mappings chooses by tensor name as in a recipe:
    ``[{"filter": "mlp", "value": 0.8}, {"value": 0.5}]``.  seed: of random methods, which tell parents apart by their place.
    calibration: for methods that look at data: batches for each parent, ``[batches, batches]`` or ``{0: batches, 1: batches}``, or one
    iterable of batches for all; a batch is a mapping of the model's arguments to tensors.  The parents (and `base`, where the method runs
    it) are then models of torch, not state dicts; copies of them are run.  statistics: instead, what such a method would measure,
    ``{parent: {tensor: ...}}`` by the parents' places from 0, as the method's page says.
    dtype: "float32", "float16", "bfloat16" or such a dtype of torch or numpy; default: the parents' own, float32 for a tensor
    that they hold in different ones.  jobs: threads, default the cores at hand.

    Returns new tensors of the parents' kind (torch: on the device of the first parent's) under the first parent's names, or
    the base's, in their order; names that are one memory in every model stay one tensor.  The inputs are never changed.  A method that
    finds coefficients first returns them with the tensors, as a `MergedState`.
    What a plan would warn of is a `UserWarning`.  Raises `RecipeError` and `PlanError` for all faults together before
    anything is computed, and `MergeError` for numbers that are not finite.
    """
    method = known_method(name, parameters)
    given, faults = given_data(method, parents, base, calibration, statistics)
    runs_models = method is not None and method.wrapper is not None and method.wrapper.needs_data
    if (runs_models or calibration is not None) and isinstance(parents, list | tuple):
        parents, base = [*map(state_dict_of, parents)], state_dict_of(base)
    listed, places = _listed(method, parents, base)
    shared_names = _one_memory([*listed.values()])
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
        recipe = recipe_of_call(name, places, BASE in listed, parameters or {}, seed, dtype)
    except RecipeError as fault:
        faults += fault.faults
    if faults:
        raise _together(faults)
    merged = merge_opened(recipe, models, kinds.pop() if kinds else "numpy", shared_names, jobs, given)
    return merged if recipe.method.finds_coefficients else dict(merged)


def _listed(
    method: MergeMethod | None, parents: Sequence[Mapping[str, Any]], base: Mapping[str, Any] | None
) -> tuple[dict[str, Mapping[str, Any]], tuple[str, ...]]:
    """Every model under the name that errors call it by, the base's first; and the names of those that are merged."""
    if isinstance(parents, Mapping) or not isinstance(parents, Sequence):
        raise RecipeError("parents must be a list of state dicts", where="parents", hint="parents=[first, second]")
    if not parents:
        raise RecipeError("no parents are given", where="parents", hint="parents=[first, second]")
    own = {f"parents[{i}]": tensors for i, tensors in enumerate(parents)}
    if base is None:
        return own, tuple(own)
    same = next((place for place, tensors in own.items() if tensors is base), None)
    if method is not None and method.base == "start":
        if len(own) == 1:  # the other one, be it the base's equal
            return {BASE: base, **own}, (BASE, *own)
        same = same or next((place for place, tensors in own.items() if _equal(tensors, base)), None)
        if same is None:
            return {BASE: base, **own}, (BASE, *own)
        rest = {place: tensors for place, tensors in own.items() if place != same}
        return {BASE: base, **rest}, tuple(BASE if place == same else place for place in own)
    if same is not None and method is not None:
        if method.base == "none":  # it is merged as what it is, one of the parents
            return own, tuple(own)
        text = f"{same} is the base itself, and is merged as a parent that learned nothing; leave it out"
        warnings.warn(text, stacklevel=3)
    return {BASE: base, **own}, tuple(own)


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


def merge_opened(
    recipe: Recipe,
    models: Mapping[str, StateDict],
    kind: Kind,
    one_memory: Mapping[str, str],
    jobs: int | None,
    given: GivenData = NOTHING_GIVEN,
) -> MergedState:
    """The merge of state dicts by a recipe that names them.

    one_memory: names that are one memory with another, which stands behind them.  given: for methods that look at data.  Warnings and errors
    are those of `merge_state_dicts`.
    """
    ordered = [models[reference.name] for reference in recipe.references]
    plan = plan_opened(recipe, ordered, jobs)
    _check_numpy_knows(plan, kind)
    for warning in plan.warnings:
        warnings.warn(warning, stacklevel=3)
    data = {step.output.name: np.empty(step.output.nbytes, np.uint8) for step in plan.steps}

    def sink(step: Step, first: int, entries: npt.NDArray[Any]) -> None:
        start = first * entries.itemsize
        data[step.output.name][start : start + entries.nbytes] = entries.view(np.uint8)

    most = max(len(step.inputs) for step in plan.steps)
    inputs = MemoryInputs(plan.parents, ordered, keep=plan.jobs * most)
    prepared = None
    if plan.method.wrapper is not None:
        statistics = given.statistics_without(one_memory)
        prepared = given.prepared or prepare(
            plan, inputs, jobs=jobs or plan.jobs, statistics=statistics, models=given.models
        )
        plan = with_coefficients(plan, prepared)
    pools = pooled_states(plan, inputs, jobs or plan.jobs)
    execute(plan, sink, jobs=jobs, inputs=inputs, pools=pools)
    donor = models[BASE] if BASE in models else ordered[0]
    devices = {name: getattr(value, "device", None) for name, value in donor.tensors.items()}
    outputs = {step.output.name: step.output for step in plan.steps}
    merged = {name: tensor_of(data.pop(name), outputs[name], kind, devices[name]) for name in donor.tensors}
    tensors = merged | {name: merged[kept] for name, kept in one_memory.items()}
    if prepared is None and plan.method.pooled is None:
        return MergedState(tensors)
    own = equivalents(plan, pools) if prepared is None else prepared.coefficients
    return MergedState(
        tensors,
        coefficients=own | {name: own[kept] for name, kept in one_memory.items() if kept in own},
        state=pools if prepared is None else prepared.state,
    )


def _check_numpy_knows(plan: Plan, kind: Kind) -> None:
    for dtype in dict.fromkeys(step.output.dtype.torch_name for step in plan.steps) if kind == "numpy" else ():
        try:
            np.dtype(dtype)
        except TypeError:
            hint = "import ml_dtypes, which adds it; or ask for float32, or give torch tensors"
            raise PlanError(f"numpy has no {dtype}", where="dtype", hint=hint) from None


def plan_opened(recipe: Recipe, models: Sequence[StateDict], jobs: int | None) -> Plan:
    """The plan of a merge of state dicts, one for each of the recipe's references in their order; faults are in the words of the call."""
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
    raise _together([in_the_words_of_the_call(fault, places) for fault in faults])


def _together(faults: Sequence[HubmergeError]) -> HubmergeError:
    """One error for all faults: of the recipe's kind where all of them are, else of the plan's."""
    if len(faults) == 1:
        return faults[0]
    return (RecipeError if all(isinstance(fault, RecipeError) for fault in faults) else PlanError).of(faults)
