"""`plan_adapters`: recipe and headers in, an `AdapterPlan` out.  No factors are read, nothing is written."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from hubmerge.adapter_checks import adapter_method
from hubmerge.adapter_words import Combination
from hubmerge.cores import cores
from hubmerge.errors import PlanError, shown
from hubmerge.lora.base import Base, base_of
from hubmerge.lora.base_tensors import tensors_of
from hubmerge.lora.computing import check_ranks, cross_terms
from hubmerge.lora.dense import plan_dense
from hubmerge.lora.differing import differences
from hubmerge.lora.headers import AdapterHeader, check_one_base, different_bases, open_adapter, other_ranks
from hubmerge.lora.plan_types import AdapterPlan, PlannedModule
from hubmerge.lora.planned_base import base_of_wholes, without_starts
from hubmerge.lora.planned_wholes import PlannedWholes, planned_wholes
from hubmerge.lora.ranks import check_rank, planned_module
from hubmerge.lora.running import plan_running
from hubmerge.lora.stacks import modules_of
from hubmerge.method import MergeMethod
from hubmerge.parents import ParentModel
from hubmerge.plan_types import Download, Plan, PlannedParent
from hubmerge.recipe import Recipe
from zoo_index.errors import HubmergeError
from zoo_index.reference import ModelRef

__all__ = ["plan_adapters"]

_REVISION = 2
"""Raised whenever the numbers of a merge in a basis change."""
_KNOTS = "basis: knots"
_HINT = "basis: and output: {kind: adapter} merge PEFT adapters; leave both out to merge models"


def plan_adapters(
    recipe: Recipe, pins: Mapping[str, str], *, jobs: int | None, memory: int, strict: bool = False
) -> AdapterPlan:
    """Decide everything about a merge of adapters from the recipe, their headers and configs, and for a model those of its base.

    Raises `PlanError` for parents that are no adapters, or of different bases, for a rank that cannot be, for a base that they do not fit,
    and what opening them raises, for all together.
    """
    adapters = _opened([entry.model for entry in recipe.models], pins)
    method, missing = adapter_method(recipe), recipe.missing or "zero"
    check_one_base(adapters, where="models", other_bases=bool(recipe.other_bases))
    base = base_of(recipe.base_model, adapters)
    adapters, found_again = without_starts(adapters, base, pins)
    parts = modules_of(adapters, missing, where="models")
    ranks = {module: tuple(part and part.rank for part in own) for module, own in parts.items()}
    if isinstance(method, Combination) and len(adapters) > 1:
        present = {module: [rank for rank in own if rank is not None] for module, own in ranks.items()}
        check_ranks(method.name, present, instead=_KNOTS, where="models")
    largest = max(rank for own in ranks.values() for rank in own if rank is not None)
    modules = tuple(
        planned_module(
            module, next(part.shape for part in own if part), ranks[module], method, recipe.output.rank, largest
        )
        for module, own in parts.items()
    )
    check_rank(recipe.output.rank, modules)
    dense = None
    running = None
    if isinstance(method, MergeMethod) and method.wrapper is not None and method.wrapper.needs_data:
        running = plan_running(recipe, base, adapters, pins, jobs=jobs)
    model = base_of_wholes(recipe, base, adapters, pins, run=running is not None)
    wholes = planned_wholes(adapters, None if model is None else tensors_of(model), missing, where="models")
    if recipe.output.kind == "dense":
        dense = plan_dense(recipe, _base_to_read(base), pins, modules, wholes, adapters, jobs=jobs, memory=memory)
    basis = _basis(recipe, method)
    differs = differences(adapters, ranks, missing, left_out=_left_out(adapters, modules))
    differs = (*differs, *found_again, *wholes.told(method.name))
    warnings, notes = _warnings(recipe, method, base, modules, dense)
    if running is not None and running.preparation is not None:
        notes = (*notes, *running.preparation.notes)
    warnings = (*warnings, *filter(None, map(other_ranks, adapters)))
    others = different_bases(adapters)
    warnings = (*warnings, f"{others}; the merge says that it is of the first's") if others else warnings
    if strict and warnings:
        hint = "mend it, or leave out --strict"
        raise PlanError.of([PlanError(warning, where="--strict", hint=hint) for warning in warnings])
    parents = tuple(_planned(recipe, adapter) for adapter in adapters)
    if dense is not None:
        parents = (replace(dense.parents[0], role="base"), *parents)
    elif running is not None:
        parents = (next(parent for parent in running.parents if parent.role == "base"), *parents)
    elif model is not None and wholes.origin:
        parents = (PlannedParent(model.reference, "base", model.commit, None, model.headers, {}), *parents)
    workers = jobs or cores()
    plan = AdapterPlan(
        recipe=recipe,
        method=method,
        parents=parents,
        adapters=adapters,
        basis=basis,
        missing=missing,
        modules=modules,
        wholes=wholes,
        base_model=base.name,
        base_revision=base.revision,
        differs=differs,
        dense=dense,
        running=running,
        downloads=_downloads(adapters, dense or running, model, wholes, len(parents) - len(adapters)),
        warnings=(*warnings, *notes),
        notes=notes,
        bytes_written=0,
        peak_memory=_peak_memory(modules, workers, basis, method.name) + 4 * wholes.entries * (len(adapters) + 3),
        jobs=workers,
        hash="",
    )
    written = dense.bytes_written + plan.merged_bytes if dense is not None else plan.merged_bytes
    return replace(plan, bytes_written=written, hash=_hash(plan))


def _opened(references: Sequence[ModelRef], pins: Mapping[str, str]) -> tuple[AdapterHeader, ...]:
    opened: list[AdapterHeader] = []
    faults: list[HubmergeError] = []
    for reference in references:
        try:
            opened.append(open_adapter(reference, pins.get(str(reference)), _HINT, wholes=True, starts=True))
        except HubmergeError as fault:
            faults += fault.faults
        except OSError as error:
            hint = "check the path and its permissions"
            faults.append(PlanError(f"it cannot be opened ({error.strerror})", where=shown(str(reference)), hint=hint))
    places = [_place(adapter) for adapter in opened]
    for i, adapter in enumerate(opened):
        if places[i] in places[:i]:
            text = f"{opened[places.index(places[i])].name} and {adapter.name} are one and the same adapter"
            faults.append(PlanError(text, where="models", hint="name it once, and in one way"))
    if faults:
        raise faults[0] if len(faults) == 1 else PlanError.of(faults)
    return tuple(opened)


def _place(adapter: AdapterHeader) -> tuple[str, str | None]:
    pinned = adapter.source.pinned
    name = pinned.reference
    return (str(name.path.resolve()) if pinned.commit is None else name.name), pinned.commit


def _base_to_read(base: Base) -> ModelRef:
    if base.reference is None:
        raise PlanError(
            "the result is a model, and neither the recipe nor an adapter says of which base",
            where="base_model",
            hint="add base_model: the model that the adapters were trained on",
        )
    return base.reference


def _basis(recipe: Recipe, method: MergeMethod | Combination) -> Literal["knots", "core", "none"]:
    if isinstance(method, Combination):
        return "none"
    return recipe.basis if recipe.basis in {"knots", "core"} else "core"  # a weighted sum is the same in every basis


def _left_out(adapters: Sequence[AdapterHeader], modules: Sequence[PlannedModule]) -> int:
    return len({module for adapter in adapters for module in adapter.modules}) - len(modules)


def _warnings(
    recipe: Recipe,
    method: MergeMethod | Combination,
    base: Base,
    modules: Sequence[PlannedModule],
    dense: Plan | None,
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What is likely to be a mistake; and notes."""
    terms = cross_terms(method.name, len(recipe.models), instead=_KNOTS) if isinstance(method, Combination) else None
    idle = [
        f"parameters.{name}: {said}"
        for section in recipe.sections
        for name, setting in section.scopes.settings
        for said in setting.idle_filters([module.name for module in modules], "module")
    ]
    own_notes = dense.notes if dense is not None else ()
    own = [text for text in dense.warnings if text not in own_notes] if dense is not None else []
    warnings = [*recipe.warnings, *dict.fromkeys(idle), *filter(None, (terms, base.warning)), *own]
    return tuple(warnings), (*recipe.notes, *own_notes)


def _planned(recipe: Recipe, adapter: AdapterHeader) -> PlannedParent:
    own = next(dict(entry.parameters) for entry in recipe.models if entry.model == adapter.reference)
    return PlannedParent(adapter.reference, "parent", adapter.source.pinned.commit, None, adapter.given.headers, own)


def _downloads(
    adapters: Sequence[AdapterHeader], whole: Plan | None, model: ParentModel | None, wholes: PlannedWholes, first: int
) -> tuple[Download, ...]:
    """Every file that is read and not on this disk yet.  whole: a plan that reads all of the base; first: the place of the first adapter."""
    found = []
    if whole is not None:
        base = whole.config_donor
        own = [file for file in whole.downloads if file.parent == base and not file.in_adapter]
        found += [replace(file, parent=0) for file in own]
    if model is not None:
        names = sorted({meta.file for meta in wholes.origin.values()} - {file.name for file in found})
        found += [Download(0, name, size) for name, size in model.source.missing(names).items()]
    for place, adapter in enumerate(adapters, first):
        missing = adapter.source.missing(adapter.table.files)
        found += [Download(place, name, size) for name, size in missing.items()]
    return tuple(found)


def _peak_memory(modules: Sequence[PlannedModule], workers: int, basis: str, method: str) -> int:
    """Bytes, estimated: all factors and what comes of them in float32, what a basis holds, and a few of the largest module's in float64."""
    held = largest = 0
    for module in modules:
        total, (rows, columns) = sum(rank or 0 for rank in module.ranks), module.shape
        coordinates = {"knots": total * columns, "core": total * total, "none": 0}[basis]
        held += 4 * (total * (rows + columns) + coordinates + module.rank * (2 * rows + columns))
        held += {"knots": 8 * total * total, "core": 8 * total * (rows + columns), "none": 0}[basis]
        own = 8 * total * (rows + columns) * 6 + 8 * coordinates * (workers + 2) * len(module.ranks)
        if basis == "none" and method.endswith(
            "_svd"
        ):  # the dense changes, what is kept of them, and what becomes of it
            own += 8 * rows * columns * (2 * len(module.ranks) + 4)
        largest = max(largest, own)
    return held + largest


def _hash(plan: AdapterPlan) -> str:
    """sha256 over what decides the output: recipe, pinned adapters with their headers and configs, method, modules, the dense plan."""
    content: dict[str, Any] = {
        "recipe": plan.recipe.to_dict(),
        "method": [plan.method.name, plan.method.revision, plan.basis, _REVISION],
        "parents": [[str(parent.reference), parent.commit, dict(parent.headers)] for parent in plan.parents],
        "configs": [dict(adapter.config) for adapter in plan.adapters],
        "modules": [[module.name, module.ranks, module.rank] for module in plan.modules],
        "wholes": [[*own] for own in (plan.wholes.copies, plan.wholes.biases, plan.wholes.carried, plan.wholes.origin)],
        "base": [plan.base_model, plan.base_revision],
        "dense": plan.dense.hash if plan.dense is not None else None,
    }
    content |= {"running": plan.running.hash} if plan.running is not None else {}
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
