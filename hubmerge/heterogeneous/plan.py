"""`plan_assembly`: a recipe for unlike models and their headers in, an `AssemblyPlan` out.  Torch is not loaded, and of weights no more is
read than what tells relatives from strangers (`hubmerge.heterogeneous.stream_kin`).
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, Literal

from hubmerge.assemblies import Assembly
from hubmerge.assembly_stages import AssemblyStages, stages_of
from hubmerge.calibration.check import CalibrationFacts, check_calibration, most_samples
from hubmerge.carry import files_to_carry, has_tokenizer
from hubmerge.errors import PlanError
from hubmerge.heterogeneous.base_vocabulary import token_groups
from hubmerge.heterogeneous.costs import PlannedSizes, planned_sizes
from hubmerge.heterogeneous.depths import depths_of, specs_at_depth
from hubmerge.heterogeneous.groups import kept_groups, planned_groups
from hubmerge.heterogeneous.labels import GROUP as LABELS
from hubmerge.heterogeneous.labels import MergedLabels, merged_labels
from hubmerge.heterogeneous.memory_use import planned_use
from hubmerge.heterogeneous.parents import check_bases, check_parents, check_widths, inputs_at_once, specs_of, widths_of
from hubmerge.heterogeneous.plan_types import AssemblyPlan
from hubmerge.heterogeneous.position_rows import check_filled, position_rows
from hubmerge.heterogeneous.stream_kin import chosen_residual
from hubmerge.heterogeneous.stream_plan import check_streams, head_notes, untied_sizes
from hubmerge.heterogeneous.vocabulary_plan import planned_tokens
from hubmerge.parents import ParentModel
from hubmerge.plan_types import CarriedFile, Download, PlannedParent
from hubmerge.recipe import Recipe
from hubmerge.recipe_calibration import Calibration
from hubmerge.symmetry.groups import SymmetrySpec
from zoo_index.tensors import DType

__all__ = ["calibration_facts", "plan_assembly", "planned_downloads", "refuse_several_inputs", "written_dtype"]


def plan_assembly(
    recipe: Recipe,
    models: Sequence[ParentModel],
    pins: Mapping[str, str] | None = None,
    *,
    strict: bool = False,
    memory: int | None = None,
) -> AssemblyPlan:
    """Decide what can be decided about an assembly; models: one for each of the recipe's references, in their order.

    pins: the commit of a calibration dataset of the Hub, by its name in the recipe.  strict: warnings are errors.
    memory: bytes that may be taken, see `hubmerge.heterogeneous.memory_use.use_of`.

    Raises `PlanError` and `SymmetryError` for models that cannot be put together, `PlanError` for too little memory,
    `PlanError` and `HubError` for the data.
    """
    assembly = recipe.assembly
    assert assembly is not None
    stages = stages_of(assembly, recipe)
    base = [model.reference for model in models].index(stages.base)
    order = (base, *(i for i in range(len(models)) if i != base))
    ordered = [models[i] for i in order]
    specs = specs_of(ordered)
    warnings = [*recipe.warnings, *check_parents(ordered, specs, stages)]
    check_bases(models, stages)
    rows, unknown = planned_tokens(ordered, specs, stages)
    warnings += unknown
    stages, told = chosen_residual(ordered, specs, stages, rows)
    check_widths(ordered, specs, stages)
    check_streams(specs, stages, [str(model.reference) for model in ordered])
    depths, widths = depths_of(specs), [widths_of(model, spec) for model, spec in zip(ordered, specs, strict=True)]
    specs = specs_at_depth(specs, [model.config for model in ordered])
    labels = _labels(ordered, specs, stages)
    kept = kept_groups(specs[0], stages, ordered[0].reference, told)
    calibration = calibration_facts(stages.calibration, ordered[0], pins or {})
    positions = tuple(position_rows((specs[0], spec), ordered[0].config) for spec in specs[1:])
    if not stages.bases:
        check_filled(specs, positions, [str(model.reference) for model in ordered])
    aligned = {found.group for found in positions if found is not None}
    aligned |= {*token_groups(specs[0])} if any(found is not None for found in rows) else set()
    samples = most_samples(stages.calibration, calibration) if stages.calibration is not None else 0
    sized = planned_sizes(ordered, specs, stages, labels, kept, aligned, samples=samples)
    use = planned_use(
        sized.needs,
        sized.cost.parameters,
        models,
        memory,
        copies=bool(aligned) or (stages.residual == "orthogonal" and not assembly.carries),
        untied=sum(untied_sizes(specs[0], stages)),
    )
    if strict and warnings:
        hint = "mend it, or leave out --strict"
        raise PlanError.of([PlanError(warning, where="--strict", hint=hint) for warning in warnings])
    lead = next((i for i in (base, *range(len(models))) if has_tokenizer(models[i])), None)
    own, tokens, left = files_to_carry(models[base], None if lead is None else models[lead])
    carried = [CarriedFile(name, base, size) for name, size in own.items()]
    carried += [CarriedFile(name, base if lead is None else lead, size) for name, size in tokens.items()]
    dtype = written_dtype(recipe, models)
    notes = (
        *recipe.notes,
        *(note for model in models for note in model.notes),
        *_notes(stages, calibration, sized),
        *head_notes(specs[0], stages),
    )
    plan = AssemblyPlan(
        recipe=recipe,
        assembly=assembly,
        stages=stages,
        parents=tuple(_planned(recipe, model, stages) for model in models),
        base=base,
        family=specs[0].family,
        tensors=tuple(tuple(model.table.values()) for model in models),
        widths=tuple(widths[order.index(i)] for i in range(len(models))),
        depths=depths,
        groups=planned_groups(specs, sized.sizes, kept),
        kept=kept,
        tokens=rows,
        positions=positions,
        changed=sized.changed,
        labels=labels,
        base_cost=sized.base_cost,
        cost=sized.cost,
        blocks=sized.blocks,
        exact=sized.exact,
        calibration=calibration,
        tokenizer_donor=lead,
        dtype=dtype.torch_name,
        tensor_count=len(specs[0].tensors) + len(untied_sizes(specs[0], stages)),
        carried=tuple(sorted(carried, key=lambda file: file.name)),
        downloads=tuple(planned_downloads(models, carried)),
        left=left,
        warnings=(*warnings, *notes),
        notes=notes,
        bytes_written=sized.cost.parameters * dtype.bits // 8 + sum(file.size for file in carried),
        peak_memory=use.peak,
        memory_use=use,
        hash="",
    )
    return replace(plan, hash=_hash(plan, assembly))


def _labels(
    models: Sequence[ParentModel], specs: Sequence[SymmetrySpec], stages: AssemblyStages
) -> MergedLabels | None:
    if LABELS not in specs[0].groups:
        if stages.labels not in {None, "none"}:
            message = f"the models have no classifier, and labels: {stages.labels} says how classes come together"
            raise PlanError(message, where="labels", hint="remove labels, or merge models with their heads")
        return None
    if stages.labels == "none":
        message = f"{models[0].reference} has a classifier, and labels: none says that there is none"
        hint = "write labels: shared or labels: disjoint, or save the models without their heads"
        raise PlanError(message, where="labels", hint=hint)
    asked = "shared" if stages.bases and stages.labels is None else stages.labels
    return merged_labels([model.config for model in models], asked)


def calibration_facts(
    asked: Calibration | None,
    base: ParentModel,
    pins: Mapping[str, str],
    otherwise: str = "write align: weights and fit: none, which need no data",
) -> CalibrationFacts | None:
    """What the headers of the data say; `PlanError` where the base cannot be given it.  otherwise: what to do where it takes two things."""
    if asked is None:
        return None
    refuse_several_inputs(base, otherwise)
    return check_calibration(asked, base.source, base.config, pins.get(asked.data))


def refuse_several_inputs(base: ParentModel, hint: str) -> None:
    """`PlanError` for a model that takes two things at once: calibration data is of one kind.  hint: what to do without data."""
    what = inputs_at_once(base.config)
    if what:
        architecture = (base.config.get("architectures") or [""])[0]
        raise PlanError(
            f"{base.reference} ({architecture}) takes {what}, and calibration data is of one kind",
            where="calibration",
            hint=hint,
        )


def written_dtype(recipe: Recipe, models: Sequence[ParentModel]) -> DType:
    """The recipe's, else the one that all parents have for most of their numbers, else float32."""
    asked = recipe.out_dtype or recipe.dtype
    if asked is not None:
        found = DType.from_torch_name(str(asked))
        assert found is not None
        return found
    counts = [Counter[DType]() for _ in models]
    for count, model in zip(counts, models, strict=True):
        for meta in model.table.values():
            if meta.dtype.is_float:
                count[meta.dtype] += meta.numel
    main = {max(count, key=lambda dtype: (count[dtype], dtype.value)) for count in counts}
    return next(iter(main)) if len(main) == 1 else DType.F32


def _notes(stages: AssemblyStages, calibration: CalibrationFacts | None, sized: PlannedSizes) -> list[str]:
    notes = list(calibration.notes) if calibration is not None else []
    if stages.policy == "greedy":
        notes.append(
            "which groups a greedy budget makes wider is known when units are matched: sizes are those of a uniform one until then"
        )
    elif not sized.exact and stages.budget is not None:
        notes.append(
            "sizes under a budget depend on the size of the inputs, which is not known yet: those here are estimates"
        )
    if stages.widths == "union" and stages.budget is None and not stages.ratio:
        notes.append("widths: union without budget or ratio makes the merge as wide as its widest model, and no wider")
    return notes


def _planned(recipe: Recipe, model: ParentModel, stages: AssemblyStages) -> PlannedParent:
    (section,) = recipe.sections
    own = next((s.parameters for s in section.sources if s.model == model.reference), {})
    listed = {entry.model for entry in recipe.models}
    role: Literal["base", "parent"] = "parent" if not stages.bases or model.reference in listed else "base"
    return PlannedParent(model.reference, role, model.commit, None, model.headers, dict(own))


def planned_downloads(models: Sequence[ParentModel], carried: Sequence[CarriedFile]) -> list[Download]:
    """The weights of all models and the carried files, as far as they are not on this disk."""
    found = []
    for i, model in enumerate(models):
        wanted = [*model.table.files, *(file.name for file in carried if file.parent == i)]
        found += [Download(i, name, size) for name, size in model.source.missing(wanted).items()]
    return found


_SAID_LATER: Mapping[str, Callable[[AssemblyStages], bool]] = {
    "non_diagonal": lambda stages: stages.fit == "regmean",
    "policy": lambda stages: stages.policy != "uniform",
}
"""Choices that recipes came to have later, and when they decide anything: plans of earlier versions keep their hash."""


def _hash(plan: AssemblyPlan, assembly: Assembly) -> str:
    """sha256 over what decides the output, but for the calibration's rows: recipe, method, pinned parents with headers, sizes, files."""
    unused = {name for name, says in _SAID_LATER.items() if not says(plan.stages)}
    stages = {name: value for name, value in asdict(plan.stages).items() if name not in unused}
    if plan.stages.residual == "keep" and not assembly.carries:  # left out it was None, when all kept it
        stages["residual"] = plan.recipe.align and plan.recipe.align.residual
    content: dict[str, Any] = {
        "recipe": plan.recipe.to_dict(),
        "method": [assembly.name, assembly.revision],
        "stages": {
            **stages,
            "calibration": None,
            "base": str(plan.stages.base),
            "bases": [str(base) for base in plan.stages.bases],
        },
        "calibration": plan.calibration and [plan.calibration.column, plan.calibration.commit],
        "parents": [[str(p.reference), p.commit, dict(p.headers)] for p in plan.parents],
        "groups": [[group.name, group.sizes, group.merged] for group in plan.groups],
        "kept": sorted(plan.kept),
        "tokens": [found and hashlib.sha256(found.rows.tobytes()).hexdigest() for found in plan.tokens],
        "labels": plan.labels and plan.labels.names,
        "dtype": plan.dtype,
        "carried": [[file.name, file.parent, file.size] for file in plan.carried],
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
