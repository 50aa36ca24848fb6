"""From a plan and models with their data to the coefficients of AdaMerging."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from hubmerge.adamerging.changes import Change, Whole
from hubmerge.adamerging.descent import Found, Task, descended
from hubmerge.adamerging.entropy import parts_of
from hubmerge.adamerging.processed import merged_with
from hubmerge.adamerging.stored import Stored
from hubmerge.adamerging.working import WorkingModel, head_of
from hubmerge.errors import PlanError
from hubmerge.prologue import known_of, pooled_states
from hubmerge.torch_threads import one_torch_thread
from hubmerge.wrapper import ParentModels, Prepared, Preparing

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["prepare_adamerging"]

_ALL = "model"
"""The one layer of task-wise coefficients."""


def prepare_adamerging(given: Preparing) -> Prepared:
    """The coefficients by tensor, or of the whole model; see `hubmerge.methods.without_labels`.

    Raises `PlanError` for models whose parameters are not those that are merged, or whose head is not known, `MergeError` for a model
    that cannot be run on its data, `NumbersError` for a gradient that is not finite.
    """
    assert given.models is not None
    values = given.values
    with ExitStack() as stack, one_torch_thread():
        given.note("deltas of every parent, by the inner method")
        if given.changes is None:
            (working, names), tensors = _working(given, given.models, stack), given.tensors
        else:
            working, names = _adapted(given.models, given.changes())
            tensors = names
        tasks = _tasks(given.models, values, one_config=given.changes is not None)
        layer_wise = values["granularity"] == "layer"
        group_of = range(len(names)) if layer_wise else [0] * len(names)
        given.note(f"{values['steps']} steps of descent on {(max(group_of) + 1) * given.parents} coefficients")
        found = descended(
            working,
            tasks,
            group_of,
            init=values["init"],
            steps=values["steps"],
            rate=values["learning_rate"],
            clamp=values["clamp"],
            seed=given.plan.recipe.seed,
            note=given.note,
        )
    state: dict[str, Any] = {
        "entropies_before": list(found.before),
        "entropies": list(found.after),
        "own_heads": sorted(_merged_names(working, names, {name for task in tasks for name in task.head})),
    }
    if not layer_wise:
        return Prepared({_ALL: tuple(found.coefficients[0].tolist())}, dict.fromkeys(tensors, _ALL), state)
    return Prepared(_by_tensor(found, names, tensors, values["init"]), {name: name for name in tensors}, state)


def _by_tensor(found: Found, names: Sequence[str], tensors: Sequence[str], init: float) -> dict[str, tuple[float, ...]]:
    """The coefficients of every tensor; those of tensors that are no parameters, which no loss depends on, as they were."""
    rows = dict(zip(names, found.coefficients.tolist(), strict=True))
    return {name: tuple(rows.get(name, (init,) * found.coefficients.shape[1])) for name in tensors}


def _working(given: Preparing, models: ParentModels, stack: ExitStack) -> tuple[WorkingModel, tuple[str, ...]]:
    """The model to run, and the names of its tensors in the merge, in the order of its parameters."""
    import torch

    model, merged = models.base(), set(given.tensors)
    known = {own: name for own, name in models.tensor_names(model).items() if name in merged}
    if not known:
        hint = "take the model itself as base"
        raise PlanError("none of its parameters is a tensor of the merge", where="base_model", hint=hint)
    shapes = {known[own]: tuple(values.shape) for own, values in model.named_parameters() if own in known}
    names = tuple(known.values())
    states = known_of(given.plan, pooled_states(given.plan, given.inputs, given.jobs))
    stores = [Stored(shapes, given.scratch, stack)]
    buffers = {_renamed(own, known): buffer for own, buffer in model.named_buffers()}
    for step, values in merged_with(given.plan, given.inputs, states, (0.0,) * given.parents):
        if step.output.name in names:
            stores[0].put(step.output.name, values)
        elif step.output.name in buffers:
            with torch.no_grad():
                buffers[step.output.name].copy_(torch.from_numpy(values))
    for place in range(given.parents):
        store = Stored(shapes, given.scratch, stack)
        alone = tuple(float(place == k) for k in range(given.parents))
        for step, values in merged_with(given.plan, given.inputs, states, alone):
            if step.action == "merge" and step.output.name in names:
                store.put(step.output.name, values - stores[0].array(step.output.name))
        stores.append(store)
    base, *deltas = (tuple(map(store.tensor, names)) for store in stores)
    return WorkingModel(model, tuple(known), base, tuple(tuple(map(Whole, own)) for own in deltas)), names


def _adapted(models: ParentModels, changes: Mapping[str, Sequence[Change]]) -> tuple[WorkingModel, tuple[str, ...]]:
    """The same of a base whose parents are changes of some of its tensors, which the others need not be stored for."""
    model = models.base()
    known = {own: name for own, name in models.tensor_names(model).items() if name in changes}
    strange = next((name for name in changes if name not in known.values()), None)
    if strange is not None:
        hint = "is it the model that the adapters were trained on?"
        raise PlanError(f"{strange!r}, which the adapters change, is no parameter of it", where="base_model", hint=hint)
    own = dict(model.named_parameters())
    base = tuple(own[name].detach().clone() for name in known)
    names = tuple(known.values())
    parents = len(models.names)
    return WorkingModel(
        model, tuple(known), base, tuple(tuple(changes[name][k] for name in names) for k in range(parents))
    ), names


def _merged_names(working: WorkingModel, names: Sequence[str], own: Collection[str]) -> list[str]:
    """What the merge calls those of the model's parameters `own` that follow the coefficients."""
    return [names[i] for i, name in enumerate(working.names) if name in own]


def _renamed(own: str, known: Mapping[str, str]) -> str:
    """What the merge calls a buffer: its own name, with the prefix more or less that the parameters have there."""
    parameter, merged = next(iter(known.items()))
    if len(merged) >= len(parameter):
        return merged.removesuffix(parameter) + own if merged.endswith(parameter) else own
    return own.removeprefix(parameter.removesuffix(merged)) if parameter.endswith(merged) else own


def _tasks(models: ParentModels, values: Mapping[str, Any], *, one_config: bool) -> list[Task]:
    """one_config: whether the parents have the base's labels, as adapters have."""
    found = []
    own = values["heads"] == "own" or (values["heads"] == "auto" and not one_config and _other_labels(models))
    for place, name in enumerate(models.names):
        parts = tuple(parts_of(models.batches(place), values["batch"]))
        head: dict[str, Tensor] = {}
        if own:
            parent = models.model(place)
            weights = dict(parent.named_parameters())
            head = {each: weights[each].detach().clone() for each in head_of(parent, parts[0], name)}
            del parent, weights
        found.append(Task(name, parts, head))
    return found


def _other_labels(models: ParentModels) -> bool:
    """Whether the parents are classifiers whose labels have other names; a model without a config has none."""
    seen = set()
    for place in range(len(models.names)):
        config = getattr(models.model(place), "config", None)
        seen.add(str(sorted((getattr(config, "id2label", None) or {}).items())))
    return len(seen) > 1
