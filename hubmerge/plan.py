"""`build_plan`: recipe and headers in, a complete `Plan` out.  No weights are read, nothing is written."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from hubmerge.carry import files_to_carry, has_tokenizer, merged_config
from hubmerge.errors import PlanError
from hubmerge.estimate import peak_memory, step_reads
from hubmerge.io.shards import lay_out
from hubmerge.parents import ParentModel, open_parent
from hubmerge.plan_types import CarriedFile, Plan, PlannedParent, Step
from hubmerge.recipe import Recipe, load_recipe
from hubmerge.steps import DraftStep, draft_steps
from zoo_index.errors import HubmergeError
from zoo_index.reference import ModelRef
from zoo_index.tensors import DType

__all__ = ["DEFAULT_MEMORY", "build_plan"]

DEFAULT_MEMORY = 2_000_000_000


def build_plan(
    recipe: Recipe | Mapping[str, Any] | str | Path,
    *,
    jobs: int | None = None,
    memory: int = DEFAULT_MEMORY,
    strict: bool = False,
) -> Plan:
    """Decide everything about a merge from the recipe and the parents' headers and configs.

    jobs: worker threads (default: the cores at hand); fewer are planned when `memory` (bytes) does not hold them.
    strict: warnings are errors.  Raises `RecipeError`, `CheckpointError`, `ModelNotFoundError` or `PlanError`, for all
    parents' faults together.
    """
    recipe = load_recipe(recipe)
    models = _open_all(recipe.references)
    index = {model.reference: i for i, model in enumerate(models)}
    method = recipe.method
    donor = index[recipe.base_model] if recipe.base_model else 0
    parents = tuple(index[reference] for reference in recipe.parents)
    base = donor if method.base == "required" else None
    drafts = draft_steps(recipe, models, parents, base, donor)
    layout = lay_out([(draft.name, draft.dtype, draft.shape) for draft in drafts], recipe.output.shard_size)
    placed = {meta.name: meta for meta in layout.tensors}
    steps = tuple(Step(placed[d.name], d.action, d.operands, d.base, d.values) for d in drafts)
    tokenizer = _tokenizer_donor(recipe, models, index, donor)
    own, tokens, left = files_to_carry(models[donor], models[tokenizer] if tokenizer is not None else None)
    carried = [CarriedFile(name, donor, size) for name, size in own.items()]
    carried += [CarriedFile(name, tokenizer if tokenizer is not None else donor, size) for name, size in tokens.items()]
    warnings = (*recipe.warnings, *_notes(recipe, models, parents, drafts, donor))
    if strict and warnings:
        raise PlanError.of(
            [
                PlanError(warning, where="--strict", hint="mend the recipe, or leave out --strict")
                for warning in warnings
            ]
        )
    workers, peak = peak_memory(steps, method, jobs or _cores(), memory)
    plan = Plan(
        recipe=recipe,
        parents=tuple(_planned(recipe, model, i == base) for i, model in enumerate(models)),
        steps=steps,
        layout=layout,
        config=merged_config(models[donor].config, _main_dtype(drafts)),
        config_donor=donor,
        tokenizer_donor=tokenizer,
        carried=tuple(sorted(carried, key=lambda file: file.name)),
        left=left,
        warnings=warnings,
        jobs=workers,
        bytes_read=sum(step_reads(step, method) for step in steps),
        bytes_written=sum(layout.sizes.values()) + sum(file.size for file in carried),
        peak_memory=peak,
        hash="",
    )
    return replace(plan, hash=_hash(plan))


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _open_all(references: Sequence[ModelRef]) -> list[ParentModel]:
    models: list[ParentModel] = []
    faults: list[HubmergeError] = []
    for reference in references:
        try:
            models.append(open_parent(reference))
        except HubmergeError as fault:
            faults += fault.faults
    if faults:
        raise faults[0] if len(faults) == 1 else PlanError.of(faults)
    return models


def _planned(recipe: Recipe, model: ParentModel, is_base: bool) -> PlannedParent:
    parameters = next((entry.parameters for entry in recipe.models if entry.model == model.reference), {})
    role: Literal["base", "parent"] = "base" if is_base or model.reference == recipe.base_model else "parent"
    return PlannedParent(model.reference, role, model.commit, model.adapter_commit, model.headers, parameters)


def _main_dtype(drafts: Sequence[DraftStep]) -> DType:
    counts: dict[DType, int] = {}
    for draft in drafts:
        if draft.dtype.is_float:
            size = draft.dtype.nbytes(draft.shape) * 8 // draft.dtype.bits
            counts[draft.dtype] = counts.get(draft.dtype, 0) + size
    return max(counts, key=lambda dtype: (counts[dtype], dtype.value), default=DType.F32)


def _tokenizer_donor(
    recipe: Recipe, models: Sequence[ParentModel], index: Mapping[ModelRef, int], donor: int
) -> int | None:
    source = recipe.tokenizer_source
    if source is None or source == "base":
        if source == "base" and recipe.base_model is None:
            raise PlanError(
                "tokenizer_source: base, but no base_model is named",
                where="tokenizer_source",
                hint="name one of the models instead",
            )
        with_tokenizer = [i for i in (donor, *range(len(models))) if has_tokenizer(models[i])]
        return with_tokenizer[0] if with_tokenizer else None
    if source == "union":
        raise PlanError(
            "tokenizer_source: union is not done by this version",
            where="tokenizer_source",
            hint="use base, or one of the models",
        )
    chosen = next(
        (i for reference, i in index.items() if str(reference) == source or str(reference.model) == source), None
    )
    if chosen is None or not has_tokenizer(models[chosen]):
        what = "is none of the models" if chosen is None else "has no tokenizer"
        raise PlanError(
            f"tokenizer_source {source!r} {what}",
            where="tokenizer_source",
            hint="use base, or one of " + ", ".join(map(str, index)),
        )
    return chosen


def _notes(
    recipe: Recipe, models: Sequence[ParentModel], parents: Sequence[int], drafts: Sequence[DraftStep], donor: int
) -> list[str]:
    """What a careful person would want to know before the merge."""
    from zoo_index.compat import compare

    notes: list[str] = []
    if recipe.base_is_averaged_in:
        notes.append(
            f"base_model {recipe.base_model} is not listed under models and is averaged in with the top-level weight, as mergekit does"
        )
    if recipe.scopes.has_gradient:
        notes.append(
            "gradients run from the first layer to the last; embeddings take the first value, final norm and head the last (mergekit: the first)"
        )
    for i in dict.fromkeys(parents):
        if i != donor:
            reasons = compare(models[donor].record, models[i].record).reasons
            pair = f"{models[donor].reference} and {models[i].reference}"
            notes += [f"{pair}: {reason.sentence}" for reason in reasons if reason.severity == "warn"]
    kinds = sorted(
        {
            o.tensor.dtype.torch_name
            for d in drafts
            for o in (*d.operands, *([d.base] if d.base else []))
            if d.dtype.is_float
        }
    )
    if len(kinds) > 1 and not (recipe.dtype or recipe.out_dtype):
        notes.append(
            f"parents are stored as {' and '.join(kinds)}; tensors that mix them are written as float32; set dtype to choose"
        )
    if "float64" in kinds:
        notes.append("float64 tensors are computed in float32")
    if any(d.action == "average" for d in drafts):
        notes.append(
            "running statistics (BatchNorm) are averaged, not merged; re-estimate them on training data if accuracy matters"
        )
    return notes


def _hash(plan: Plan) -> str:
    """sha256 over what decides the output: recipe, pinned parents with their headers, method revision, steps, config."""
    content = {
        "recipe": plan.recipe.to_dict(),
        "method": [plan.method.name, plan.method.revision],
        "parents": [[str(p.reference), p.commit, p.adapter_commit, dict(p.headers)] for p in plan.parents],
        "headers": {name: hashlib.sha256(raw).hexdigest() for name, raw in plan.layout.headers.items()},
        "steps": [[s.output.name, s.action, dict(s.values)] for s in plan.steps],
        "config": plan.config,
        "carried": [[file.name, file.parent, file.size] for file in plan.carried],
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
