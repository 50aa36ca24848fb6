"""`build_plan`: recipe and headers in, a complete `Plan` out.  No weights are read, nothing is written."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from hubmerge.carry import files_to_carry, merged_config
from hubmerge.cores import cores
from hubmerge.errors import PlanError, shown
from hubmerge.estimate import peak_memory, step_reads
from hubmerge.io.shards import lay_out
from hubmerge.layer_config import ChosenLayer, stacked_config
from hubmerge.manifest import Manifest
from hubmerge.parents import ParentModel, open_parent
from hubmerge.placement import Placement, place_tensors
from hubmerge.plan_notes import notes_of, warnings_of
from hubmerge.plan_types import CarriedFile, Download, Operand, Plan, PlannedParent, Step
from hubmerge.pools import refuse_unlike
from hubmerge.recipe import Recipe, load_recipe
from hubmerge.sizes import size_text
from hubmerge.steps import DraftStep, draft_steps
from hubmerge.tokenizer_plan import TokenizerPlan, plan_tokenizer
from zoo_index.errors import HubmergeError
from zoo_index.reference import ModelRef
from zoo_index.tensors import DType

if TYPE_CHECKING:
    from hubmerge.heterogeneous.mal_plan_types import MalPlan
    from hubmerge.heterogeneous.plan_types import AssemblyPlan
    from hubmerge.lora.plan_types import AdapterPlan

__all__ = ["DEFAULT_MEMORY", "build_plan", "open_all", "pins_of", "plan_models"]

DEFAULT_MEMORY = 2_000_000_000
_GENERATION_CONFIG = "generation_config.json"
_MAX_FILES = 500
"""Most weight files of one merge: all of them are open while it runs."""


def build_plan(
    recipe: Recipe | Mapping[str, Any] | str | Path,
    *,
    jobs: int | None = None,
    memory: int | None = None,
    strict: bool = False,
    pins: Mapping[str, str] | None = None,
) -> Plan | AssemblyPlan | MalPlan | AdapterPlan:
    """Decide everything about a merge from the recipe and the parents' headers and configs.

    jobs: worker threads (default: the cores at hand); fewer are planned when `memory` (bytes, default `DEFAULT_MEMORY`) does not hold them.
    strict: warnings are errors (notes are not).  pins: Hub name as the recipe has it -> the commit to take, for doing an
    earlier merge again (`pins_of`); other Hub models are taken at their revision's commit of now.  For a recipe that puts
    unlike models together (pleas) the plan is an `AssemblyPlan`, for single layers (mal) a `MalPlan`; jobs are of no meaning to
    them, nor is memory to the second, and where deltas are carried.  For one that merges LoRA adapters as adapters it is an `AdapterPlan`.

    Raises `RecipeError`, `CheckpointError`, `ModelNotFoundError`, `HubError` or `PlanError`, for all parents' faults together.
    """
    buffers = DEFAULT_MEMORY if memory is None else memory
    recipe = load_recipe(recipe)
    if recipe.merges_adapters:
        from hubmerge.lora.planning import plan_adapters

        return plan_adapters(recipe, pins or {}, jobs=jobs, memory=buffers, strict=strict)
    models = open_all(recipe.references, pins or {})
    if recipe.assembly is not None:
        if recipe.assembly.takes == "layers":
            from hubmerge.heterogeneous.mal_plan import plan_mal

            return plan_mal(recipe, models, pins, strict=strict, memory=memory)
        from hubmerge.heterogeneous.plan import plan_assembly

        return plan_assembly(recipe, models, pins, strict=strict, memory=memory)
    if recipe.align is not None:
        from hubmerge.alignment.in_base_shapes import as_copied
        from hubmerge.alignment.planning import aligned_plan, plan_alignment

        alignment = plan_alignment(recipe, models, pins)
        plan = plan_models(recipe, as_copied(models, alignment), jobs=jobs, memory=buffers, strict=strict)
        return aligned_plan(plan, alignment, strict=strict)
    plan = plan_models(recipe, models, jobs=jobs, memory=buffers, strict=strict)
    if recipe.method.wrapper is not None:
        from hubmerge.preparation import plan_preparation, prepared_for

        return prepared_for(plan, plan_preparation(recipe, models, pins))
    return plan


def plan_models(
    recipe: Recipe, models: Sequence[ParentModel], *, jobs: int | None, memory: int, strict: bool = False
) -> Plan:
    """`build_plan` for models that are open: one for each of the recipe's references, in their order."""
    index = {model.reference: i for i, model in enumerate(models)}
    method = recipe.method
    donor = index[recipe.base_model] if recipe.base_model else 0
    tokenizer = plan_tokenizer(recipe, models, donor)
    placement = place_tensors(recipe, models, donor)
    drafts = draft_steps(recipe, models, placement, tokenizer.rows)
    layout = lay_out([(draft.name, draft.dtype, draft.shape) for draft in drafts], recipe.output.shard_size)
    _check_files(len(layout.sizes), recipe.output.shard_size)
    placed = {meta.name: meta for meta in layout.tensors}
    steps = tuple(Step(placed[d.name], d.action, d.operands, d.base, d.values) for d in drafts)
    refuse_unlike(steps, method)
    carried, left = _carried(models, donor, tokenizer)
    downloads = tuple(_downloads(models, steps, carried))
    warnings = [*warnings_of(recipe, models, placement, drafts, donor), *tokenizer.warnings]
    if strict and warnings:
        hint = "mend it, or leave out --strict"
        raise PlanError.of([PlanError(warning, where="--strict", hint=hint) for warning in warnings])
    notes = (*notes_of(recipe, models, placement, drafts, donor), *tokenizer.notes)
    workers, peak = peak_memory(steps, method, jobs or cores(), memory)
    plan = Plan(
        recipe=recipe,
        parents=tuple(_planned(recipe, model) for model in models),
        steps=steps,
        layout=layout,
        config=tokenizer.config(_config(models, placement, donor, _main_dtype(drafts)), models, donor),
        config_donor=donor,
        tokenizer_donor=tokenizer.donor,
        carried=carried,
        downloads=downloads,
        left=left,
        warnings=(*warnings, *notes),
        jobs=workers,
        bytes_read=sum(step_reads(step, method) for step in steps),
        bytes_written=sum(layout.sizes.values())
        + sum(file.size for file in carried)
        + sum(len(text.encode()) for text in tokenizer.texts.values()),
        peak_memory=peak,
        hash="",
        written=tokenizer.texts,
        vocabulary=tokenizer.vocabulary,
        notes=notes,
    )
    return replace(plan, hash=_hash(plan))


def _carried(
    models: Sequence[ParentModel], donor: int, tokenizer: TokenizerPlan
) -> tuple[tuple[CarriedFile, ...], tuple[str, ...]]:
    """The files that go along, by name, and what stays behind of the config's donor."""
    lead = donor if tokenizer.donor is None else tokenizer.donor
    own, tokens, left = files_to_carry(models[donor], None if tokenizer.donor is None else models[lead])
    if tokenizer.other_ids:  # it names special tokens by ids that are another model's
        own.pop(_GENERATION_CONFIG, None)
        size = models[lead].source.files().get(_GENERATION_CONFIG)
        tokens |= {} if size is None else {_GENERATION_CONFIG: size}
    files = [CarriedFile(name, donor, size) for name, size in own.items()]
    files += [CarriedFile(name, lead, size) for name, size in tokens.items() if name not in tokenizer.stale]
    return tuple(sorted(files, key=lambda file: file.name)), left


def _downloads(
    models: Sequence[ParentModel], steps: Sequence[Step], carried: Sequence[CarriedFile]
) -> Iterator[Download]:
    """Every file the merge reads that is not on this disk yet; shards of which no slice takes a tensor stay where they are."""
    needed = {(parent, in_adapter, meta.file) for step in steps for parent, meta, in_adapter in step.stored}
    for i, model in enumerate(models):
        weights = [name for name in model.table.files if (i, False, name) in needed]
        for name, size in model.source.missing([*weights, *(f.name for f in carried if f.parent == i)]).items():
            yield Download(i, name, size)
        if model.adapter_source and model.adapter_table:
            names = [name for name in model.adapter_table.files if (i, True, name) in needed]
            for name, size in model.adapter_source.missing(names).items():
                yield Download(i, name, size, in_adapter=True)


def _check_files(count: int, shard_size: int) -> None:
    if count > _MAX_FILES:
        raise PlanError(
            f"shards of {size_text(shard_size)} would make {count:,} weight files, at most {_MAX_FILES} are written",
            where="output.shard_size",
            hint="choose a larger one; 5GB is the default",
        )


def pins_of(manifest: Manifest) -> dict[str, str]:
    """The commits of a merge's parents, their adapters and its calibration data, by the names in its recipe."""
    rows = [(parent.reference, parent.commit) for parent in manifest.parents]
    rows += [(parent.adapter, parent.adapter_commit) for parent in manifest.parents if parent.adapter]
    rows += [(data.data, data.commit) for data in manifest.data]
    return {name: commit for name, commit in rows if name and commit}


def open_all(references: Sequence[ModelRef], pins: Mapping[str, str]) -> list[ParentModel]:
    """The models of a recipe, opened.  pins: see `build_plan`.  Raises what opening them raises, and `PlanError` for one named twice, together."""
    models: list[ParentModel] = []
    faults: list[HubmergeError] = []
    for reference in references:
        try:
            models.append(open_parent(reference, pins))
        except HubmergeError as fault:
            faults += fault.faults
        except OSError as error:
            hint = "check the path and its permissions"
            faults.append(PlanError(f"it cannot be opened ({error.strerror})", where=shown(str(reference)), hint=hint))
    for i, model in enumerate(models):
        same = next((other for other in models[:i] if other.identity == model.identity), None)
        if same is not None:
            hint = "name it once, and in one way"
            message = f"{same.reference} and {model.reference} are one and the same model"
            faults.append(PlanError(message, where="models", hint=hint))
    if faults:
        raise faults[0] if len(faults) == 1 else PlanError.of(faults)
    return models


def _planned(recipe: Recipe, model: ParentModel) -> PlannedParent:
    """An input as the plan keeps it; its parameters are told where it stands in the recipe once."""
    own = [s.parameters for part in recipe.sections for s in part.sources if s.model == model.reference]
    of_slices = {section.base for section in recipe.sections}
    merged = {m for s in recipe.sections for m in s.parents(recipe.method) if m != s.base}
    is_base = model.reference == recipe.base_model or model.reference in of_slices - merged
    role: Literal["base", "parent"] = "base" if is_base else "parent"
    parameters = dict(own[0]) if own and all(other == own[0] for other in own) else {}
    return PlannedParent(model.reference, role, model.commit, model.adapter_commit, model.headers, parameters)


def _config(models: Sequence[ParentModel], placement: Placement, donor: int, dtype: DType) -> dict[str, Any]:
    """The donor's config with the type of the merged weights and, where layers were stacked, their number and kinds."""
    where = f"{models[donor].reference}/config.json"
    config = models[donor].config
    for layers in placement.layers.values():
        chosen = [ChosenLayer(str(models[row.lead].reference), models[row.lead].config, row.layer) for row in layers]
        config = stacked_config(config, layers[0].stack, chosen, where)
    return merged_config(config, dtype, where=where)


def _main_dtype(drafts: Sequence[DraftStep]) -> DType:
    counts: dict[DType, int] = {}
    for draft in drafts:
        if draft.dtype.is_float:
            size = draft.dtype.nbytes(draft.shape) * 8 // draft.dtype.bits
            counts[draft.dtype] = counts.get(draft.dtype, 0) + size
    return max(counts, key=lambda dtype: (counts[dtype], dtype.value), default=DType.F32)


def _hash(plan: Plan) -> str:
    """sha256 over what decides the output: recipe, pinned parents with their headers, method revision, steps, config."""
    content = {
        "recipe": plan.recipe.to_dict(),
        "method": [plan.method.name, plan.method.revision],
        "parents": [[str(p.reference), p.commit, p.adapter_commit, dict(p.headers)] for p in plan.parents],
        "headers": {name: hashlib.sha256(raw).hexdigest() for name, raw in plan.layout.headers.items()},
        "steps": [[s.output.name, s.action, dict(s.values), [_read(o) for o in s.inputs]] for s in plan.steps],
        "config": plan.config,
        "carried": [[file.name, file.parent, file.size] for file in plan.carried],
        "written": {name: hashlib.sha256(text.encode()).hexdigest() for name, text in plan.written.items()},
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _read(operand: Operand) -> list[Any]:
    term = operand.low_rank
    return [
        operand.parent,
        operand.in_adapter,
        operand.tensor.name,
        None if term is None else [(term.a or term.b).name, term.scale],
        operand.rows and operand.rows.digest,
    ]
