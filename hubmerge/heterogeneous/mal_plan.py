"""`plan_mal`: a recipe for single layers and headers in, a `MalPlan` out.  No weights are read, no torch is loaded."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from hubmerge.calibration.check import CalibrationFacts, most_samples
from hubmerge.carry import files_to_carry, has_tokenizer
from hubmerge.errors import PlanError
from hubmerge.heterogeneous.blocks import blocks_of
from hubmerge.heterogeneous.costs import sides_of
from hubmerge.heterogeneous.mal_catalog import found_donors
from hubmerge.heterogeneous.mal_donors import WITHOUT_DATA, Donor, checked_donor, spec_of_base
from hubmerge.heterogeneous.mal_memory import mal_needs
from hubmerge.heterogeneous.mal_models import check_labels
from hubmerge.heterogeneous.mal_plan_types import AskedCatalog, MalPlan
from hubmerge.heterogeneous.mal_zoo import NOISE_SAMPLES
from hubmerge.heterogeneous.memory import Needs
from hubmerge.heterogeneous.memory_use import float32_size, use_of
from hubmerge.heterogeneous.parents import widths_of
from hubmerge.heterogeneous.plan import calibration_facts, planned_downloads, written_dtype
from hubmerge.heterogeneous.positions import planned_positions
from hubmerge.mal_stages import MalStages, mal_stages_of
from hubmerge.parents import ParentModel
from hubmerge.plan_types import CarriedFile, PlannedParent
from hubmerge.recipe import Recipe
from hubmerge.symmetry.groups import SymmetrySpec
from zoo_index.errors import HubmergeError
from zoo_index.tensors import DType

__all__ = ["plan_mal"]

_NOISE_SIDE, _NOISE_TOKENS = 32, 7
"""Of noise where a config does not say how large its pictures are, and of random texts."""


def plan_mal(
    recipe: Recipe,
    models: Sequence[ParentModel],
    pins: Mapping[str, str] | None = None,
    *,
    strict: bool = False,
    memory: int | None = None,
) -> MalPlan:
    """Decide what can be decided about a merge of single layers; models: one for each of the recipe's references, in their order.

    pins: commits of the models that a catalog gives and of data on the Hub, by name.  strict: warnings are errors.
    memory: bytes that may be taken, see `hubmerge.heterogeneous.memory_use.use_of`.

    Raises `PlanError`, `SymmetryError` or `CheckpointError` for models that cannot be donors, all of those that are listed together,
    `CatalogError` for a catalog that cannot be opened, `PlanError` for too little memory, `PlanError` and `HubError` for the data.
    """
    assembly = recipe.assembly
    assert assembly is not None
    stages, pins = mal_stages_of(recipe), pins or {}
    base = next(model for model in models if model.reference == stages.base)
    spec = spec_of_base(base, stages.without)
    calibration = calibration_facts(stages.calibration, base, pins, WITHOUT_DATA)
    probe = _probe_facts(stages, base, pins)
    listed = [model for model in models if model is not base]
    donors = _checked(base, spec, listed, stages, calibration)
    recipe, donors, asked = _with_catalog(recipe, base, spec, donors, stages, calibration, pins)
    every = {donor.model.reference: donor for donor in donors}
    ordered = [base if reference == base.reference else every[reference].model for reference in recipe.references]
    place = ordered.index(base)
    warnings = [*recipe.warnings, *(text for donor in donors for text in donor.warnings)]
    if strict and warnings:
        hint = "mend it, or leave out --strict"
        raise PlanError.of([PlanError(warning, where="--strict", hint=hint) for warning in warnings])
    notes = (*recipe.notes, *(note for model in ordered for note in model.notes), *_notes(calibration, probe, asked))
    own, tokens, left = files_to_carry(base, base if has_tokenizer(base) else None)
    carried = [CarriedFile(name, place, size) for name, size in {**own, **tokens}.items()]
    dtype = written_dtype(recipe, [base])
    samples = NOISE_SAMPLES if stages.calibration is None else most_samples(stages.calibration, calibration)
    specs = [spec, *(donor.spec for donor in donors)]
    use = use_of(_needs(specs, base, stages, samples, dtype), [float32_size(model) for model in ordered], memory)
    plan = MalPlan(
        recipe=recipe,
        assembly=assembly,
        stages=stages,
        parents=tuple(_planned(model, is_base=model is base) for model in ordered),
        base=place,
        family=spec.family,
        tensors=tuple(tuple(model.table.values()) for model in ordered),
        widths=tuple(widths_of(model, _spec(model, base, spec, every)) for model in ordered),
        layers=tuple(len(blocks_of(_spec(model, base, spec, every))) for model in ordered),
        stages_of=tuple(donor.stages for donor in donors),
        catalog=asked,
        calibration=calibration,
        probe=probe,
        samples=samples,
        tokenizer_donor=place if has_tokenizer(base) else None,
        dtype=dtype.torch_name,
        carried=tuple(sorted(carried, key=lambda file: file.name)),
        downloads=tuple(planned_downloads(ordered, carried)),
        left=left,
        warnings=(*warnings, *notes),
        notes=notes,
        bytes_written=base.table.parameters * dtype.bits // 8 + sum(file.size for file in carried),
        peak_memory=use.peak,
        memory_use=use,
        hash="",
    )
    return replace(plan, hash=_hash(plan))


def _checked(
    base: ParentModel,
    spec: SymmetrySpec,
    models: Sequence[ParentModel],
    stages: MalStages,
    calibration: CalibrationFacts | None,
) -> list[Donor]:
    """The donors that a recipe lists; the faults of all are told together."""
    donors: list[Donor] = []
    faults: list[HubmergeError] = []
    for model in models:
        try:
            donors.append(checked_donor(base, spec, model, stages, calibration))
        except HubmergeError as fault:
            faults += fault.faults
    if faults:
        raise faults[0] if len(faults) == 1 else PlanError.of(faults)
    return donors


def _with_catalog(
    recipe: Recipe,
    base: ParentModel,
    spec: SymmetrySpec,
    donors: Sequence[Donor],
    stages: MalStages,
    calibration: CalibrationFacts | None,
    pins: Mapping[str, str],
) -> tuple[Recipe, list[Donor], AskedCatalog | None]:
    """The recipe with what the catalog gives listed under models, and all donors."""
    if recipe.zoo is None:
        return recipe, list(donors), None
    more: dict[int, Donor] = {}

    def fits(model: ParentModel) -> None:
        more[id(model)] = checked_donor(base, spec, model, stages, calibration)

    found = found_donors(recipe.zoo, base, [donor.model for donor in donors], fits, pins)
    names = tuple(str(model.reference) for model in found.models)
    raw = recipe.to_dict()
    query = raw.pop("zoo")
    raw["models"] = [*raw.get("models", []), *({"model": name} for name in names)]
    asked = AskedCatalog(recipe.zoo, names, found.passed, found.left)
    assert query is not None
    return Recipe.parse(raw), [*donors, *(more[id(model)] for model in found.models)], asked


def _spec(model: ParentModel, base: ParentModel, spec: SymmetrySpec, donors: Mapping[Any, Donor]) -> SymmetrySpec:
    return spec if model is base else donors[model.reference].spec


def _probe_facts(stages: MalStages, base: ParentModel, pins: Mapping[str, str]) -> CalibrationFacts | None:
    """What the headers of the probe say; faults have their place under `probe`."""
    if stages.probe is None:
        return None
    try:
        facts = calibration_facts(stages.probe, base, pins, "remove probe")
    except HubmergeError as error:
        for fault in error.faults:
            fault.where = (fault.where or "").replace("calibration", "probe")
        raise
    check_labels(stages.probe, base, stages.probe.labels, "probe.labels")
    return facts


def _notes(
    calibration: CalibrationFacts | None, probe: CalibrationFacts | None, asked: AskedCatalog | None
) -> list[str]:
    notes = list(calibration.notes) if calibration is not None else []
    notes += [note.replace("calibration:", "probe:") for note in probe.notes] if probe is not None else []
    if asked is not None and asked.left:
        count = len(asked.taken)
        notes.append(f"zoo: the first {count} that fit are taken, {asked.left} more of the catalog were not looked at")
    return notes


def _needs(specs: Sequence[SymmetrySpec], base: ParentModel, stages: MalStages, samples: int, dtype: DType) -> Needs:
    size = dtype.bits // 8
    if stages.calibration is None:
        side = base.config.get("image_size")
        own = side if isinstance(side, int) else _NOISE_SIDE
        positions = planned_positions(specs[0], base.config, (own, own))
        return mal_needs(specs, positions.of_tensors, _NOISE_TOKENS, (samples, samples), size)
    positions = planned_positions(specs[0], base.config, sides_of(base, stages.calibration))
    given = stages.calibration
    return mal_needs(specs, positions.of_tensors, given.max_length, (samples, given.batch), size)


def _planned(model: ParentModel, *, is_base: bool) -> PlannedParent:
    return PlannedParent(model.reference, "base" if is_base else "parent", model.commit, None, model.headers, {})


def _hash(plan: MalPlan) -> str:
    """sha256 over what decides the output, but for the rows of the data: recipe, method, pinned models with headers, choices, files."""
    content: dict[str, Any] = {
        "recipe": plan.recipe.to_dict(),
        "method": [plan.assembly.name, plan.assembly.revision],
        "choices": plan.stages.choices,
        "data": [facts and [facts.column, facts.commit] for facts in (plan.calibration, plan.probe)],
        "parents": [[str(p.reference), p.commit, dict(p.headers)] for p in plan.parents],
        "dtype": plan.dtype,
        "carried": [[file.name, file.parent, file.size] for file in plan.carried],
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
