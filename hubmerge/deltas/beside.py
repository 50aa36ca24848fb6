"""Models beside their base: the tensors that all of them have, what is left out, and their numbers brought to this disk."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hubmerge.errors import PlanError
from hubmerge.in_memory_tensors import MemoryInputs, StateDict
from hubmerge.io.input_files import InputFiles
from hubmerge.parents import ParentModel, open_parent, parent_of
from hubmerge.plan_types import PlannedParent, Step
from hubmerge.step_inputs import operand_of
from hubmerge.tensor_faults import counted
from zoo_index.errors import HubmergeError
from zoo_index.fingerprint import is_vocabulary_tensor
from zoo_index.hub import fetch
from zoo_index.reference import ModelRef
from zoo_index.tensors import TensorMeta

__all__ = ["Beside", "beside", "in_order_of_layers", "opened"]

Model = str | Path | Mapping[str, Any]
"""A folder, a name on the Hub, either with an adapter (``base+adapter``), or a state dict."""

_STATISTICS = ("running_mean", "running_var")
_NUMBER = re.compile(r"(\d+)")


@dataclass(frozen=True)
class Beside:
    """A base and the models on top of it.

    steps: one for each floating-point tensor that all have, in the order of layers: base and operands, in the base's shape.
    notes: what is left out, in words.
    """

    base: ParentModel
    models: tuple[ParentModel, ...]
    steps: tuple[Step, ...]
    notes: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """What the models are called."""
        return tuple(str(model.reference) for model in self.models)

    def files(self) -> InputFiles:
        """The weights of all, the base's first; what is not on this disk is fetched from the Hub."""
        parents = (self.base, *self.models)
        planned = tuple(
            PlannedParent(model.reference, "parent", model.commit, model.adapter_commit, model.headers, {})
            for model in parents
        )
        held = [model.source for model in parents if isinstance(model.source, StateDict)]
        if held:
            return MemoryInputs(planned, held, keep=len(held))
        used = {(index, in_adapter, meta.file) for step in self.steps for index, meta, in_adapter in step.stored}
        sources = (((parents[i].adapter_source if own else parents[i].source), file) for i, own, file in sorted(used))
        fetch([(source, file) for source, file in sources if source is not None])
        return InputFiles(planned)


def beside(
    base: ParentModel,
    models: Sequence[ParentModel],
    hint: str = "name the base it was trained from",
    *,
    statistics: bool = False,
) -> Beside:
    """Match every model's tensors with the base's, by their names, from headers alone.

    Of embeddings and heads with more rows than the base's the rows that the base has are taken, as for a vocabulary that grew.
    Left out: tensors that not all have, and unless `statistics` asks for them those of BatchNorm, which are no parameters.

    Raises `PlanError` for models that are the base, have no tensor of its names, or tensors of other shapes; hint: what to do.
    """
    faults = [fault for model in models for fault in _faults(base, model, hint)]
    if faults:
        raise PlanError.of(faults)
    shared = [
        meta
        for meta in base.table.values()
        if meta.dtype.is_float
        and (statistics or not meta.name.endswith(_STATISTICS))
        and all(meta.name in model.table and model.table[meta.name].dtype.is_float for model in models)
    ]
    steps = tuple(_step(base, models, meta) for meta in sorted(shared, key=lambda meta: in_order_of_layers(meta.name)))
    return Beside(base, tuple(models), steps, tuple(_notes(base, models)))


def opened(given: Sequence[Model], names: Sequence[str]) -> tuple[ParentModel, ...]:
    """Models by their headers.  names: what state dicts are called; raises every fault of all models together."""
    found: list[ParentModel] = []
    faults: list[HubmergeError] = []
    for model, name in zip(given, names, strict=True):
        try:
            if isinstance(model, Mapping):
                source = StateDict(name, model)
                found.append(parent_of(ModelRef(name), source))
            else:
                found.append(open_parent(ModelRef.parse(str(model))))
        except HubmergeError as fault:
            faults += fault.faults
    if not faults and len({isinstance(model, Mapping) for model in given}) > 1:
        faults.append(PlanError("some models are in memory, others on disk", where="models", hint="save or load them"))
    if faults:
        raise faults[0] if len(faults) == 1 else PlanError.of(faults)
    return tuple(found)


def in_order_of_layers(name: str) -> tuple[tuple[int, int, str], ...]:
    """A key that sorts names with numbers by these: layer 2 before layer 10."""
    parts = _NUMBER.split(name)
    return tuple((1, int(part), "") if i % 2 else (0, 0, part) for i, part in enumerate(parts))


def _faults(base: ParentModel, model: ParentModel, hint: str) -> list[PlanError]:
    where = str(model.reference)
    if model.identity == base.identity and not isinstance(base.source, StateDict):
        return [PlanError("this is the base itself, which learned nothing", where=where, hint="leave it out")]
    both = [(meta, model.table[name]) for name, meta in base.table.items() if name in model.table]
    floats = [(ours, theirs) for ours, theirs in both if ours.dtype.is_float and theirs.dtype.is_float]
    if not floats:
        message = f"no tensor has the name of one of {base.reference} ({_first(model)} here, {_first(base)} there)"
        return [PlanError(message, where=where, hint=hint)]
    odd = [(ours, theirs) for ours, theirs in floats if ours.shape != theirs.shape and not _is_longer(ours, theirs)]
    if not odd:
        return []
    ours, theirs = odd[0]
    shapes = f"{ours.name!r} is {list(theirs.shape)}, in {base.reference} {list(ours.shape)}"
    more = f", like {len(odd) - 1} more" if len(odd) > 1 else ""
    return [PlanError(f"{shapes}{more}", where=where, hint=hint)]


def _first(model: ParentModel) -> str:
    return repr(next(iter(model.table)))


def _is_longer(ours: TensorMeta, theirs: TensorMeta) -> bool:
    """Whether theirs is ours with rows for more tokens."""
    return (
        is_vocabulary_tensor(ours.name)
        and len(ours.shape) == len(theirs.shape) > 0
        and theirs.shape[1:] == ours.shape[1:]
        and theirs.shape[0] > ours.shape[0]
    )


def _step(base: ParentModel, models: Sequence[ParentModel], meta: TensorMeta) -> Step:
    operands = tuple(operand_of(model, place, model.table[meta.name]) for place, model in enumerate(models, start=1))
    return Step(replace(meta, scale=None), "merge", operands, operand_of(base, 0, meta), {})


def _notes(base: ParentModel, models: Sequence[ParentModel]) -> list[str]:
    notes = []
    for model in models:
        for has, lacks in ((base, model), (model, base)):
            names = [n for n, meta in has.table.items() if meta.dtype.is_float and n not in lacks.table]
            if names:
                are = "is" if len(names) == 1 else "are"
                notes.append(f"{counted(names)} of {has.reference} {are} not in {lacks.reference}: left out")
        for name, meta in model.table.items():
            if name in base.table and meta.shape != base.table[name].shape:
                rows = base.table[name].shape[0]
                notes.append(
                    f"{name!r} of {model.reference} has {meta.shape[0]} rows: the first {rows}, which the base has, are taken"
                )
    return notes
