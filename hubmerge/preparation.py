"""`plan_preparation`: the data of a wrapper's parents looked at before any weight is read, and what running the models on it takes."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from hubmerge.calibration.check import CalibrationFacts, check_calibration
from hubmerge.calibration.model_side import longest_text, vocabulary_size
from hubmerge.errors import PlanError, RecipeError
from hubmerge.method_parameters import Values
from hubmerge.parents import ParentModel
from hubmerge.plan_types import Plan
from hubmerge.recipe import Recipe
from hubmerge.recipe_calibration import TaskData
from hubmerge.sizes import size_text
from hubmerge.vocabulary import read_vocabulary
from hubmerge.wrapper import DataWork, Wrapper, own_values
from zoo_index.errors import HubmergeError
from zoo_index.reference import ModelRef

__all__ = ["PlannedPreparation", "plan_preparation", "predicts_next", "prepared_for", "task_data"]

_SINGLE = 4


@dataclass(frozen=True)
class PlannedPreparation:
    """What is run before the merge.

    calibration: what each parent's own data is, in the order of `Recipe.parents`.  lines: of the plan; memory: bytes beside torch itself,
    scratch: of temporary files, both rough upper estimates.
    """

    calibration: tuple[CalibrationFacts, ...]
    lines: tuple[str, ...]
    memory: int
    scratch: int
    notes: tuple[str, ...] = ()


def task_data(recipe: Recipe) -> dict[ModelRef, tuple[str, TaskData | None]]:
    """Of every model under `models` the place of its data in the recipe, and the data."""
    return {entry.model: (f"models[{i}].calibration", entry.calibration) for i, entry in enumerate(recipe.models)}


def plan_preparation(
    recipe: Recipe, models: Sequence[ParentModel], pins: Mapping[str, str] | None = None, *, thin: int | None = None
) -> PlannedPreparation | None:
    """Look at the data of every parent; None for a method that looks at none.

    models: one for each of the recipe's references, in their order.  pins: commits of datasets, by their names in the recipe.  thin: of
    adapters that are merged as such, the bytes of their factors in float32.

    Raises `RecipeError` for a model without data, `PlanError` and `HubError` for data that a model cannot be given, lacks labels or has
    nothing in it, and for models whose tokenizers disagree; for all of them together.
    """
    method = recipe.method
    wrapper = method.wrapper
    if wrapper is None or not wrapper.needs_data:
        return None
    by_reference, asked = {model.reference: model for model in models}, task_data(recipe)
    faults: list[HubmergeError] = []
    facts: list[CalibrationFacts] = []
    parents = [by_reference[reference] for reference in recipe.parents]
    for parent in parents:
        where, data = asked[parent.reference]
        try:
            facts.append(_checked(wrapper, parent, data, where, pins or {}))
        except HubmergeError as fault:
            faults += [_placed(each, where) for each in fault.faults]
    if not faults and any(own.kind == "text" for own in facts):
        faults += _unlike_vocabularies(parents)
    if faults:
        kind = RecipeError if all(isinstance(fault, RecipeError) for fault in faults) else PlanError
        raise faults[0] if len(faults) == 1 else kind.of(faults)
    data_of = [asked[parent.reference][1] for parent in parents]
    own = [data for data in data_of if data is not None]
    return _planned(wrapper, own_values(recipe), parents, facts, own, thin)


def prepared_for(plan: Plan, preparation: PlannedPreparation | None) -> Plan:
    """`plan` with its preparation, and what that says."""
    if preparation is None:
        return plan
    found = [[facts.column, facts.commit] for facts in preparation.calibration]
    content = json.dumps([plan.hash, "calibration", found])
    return replace(
        plan,
        preparation=preparation,
        warnings=(*plan.warnings, *preparation.notes),
        notes=(*plan.notes, *preparation.notes),
        hash=hashlib.sha256(content.encode()).hexdigest(),
    )


def predicts_next(config: Mapping[str, Any]) -> bool:
    """Whether a model of this config predicts the next token, so that texts are their own labels."""
    name = str((config.get("architectures") or [""])[0])
    return "CausalLM" in name or "LMHead" in name


def _checked(
    wrapper: Wrapper, parent: ParentModel, data: TaskData | None, where: str, pins: Mapping[str, str]
) -> CalibrationFacts:
    if data is None:
        labelled = "{data: file.parquet, labels: column}; texts need no labels"
        form = labelled if wrapper.labels == "loss" else "file.parquet, without labels"
        raise RecipeError(
            f"{wrapper.name} needs calibration, and {parent.reference} has none",
            where=where,
            hint=f"name data of its own task: calibration: {form}",
        )
    facts = check_calibration(data, parent.source, parent.config, pins.get(data.data))
    if wrapper.labels == "none" and data.labels is not None:
        raise RecipeError(f"{wrapper.name} takes no labels", where=f"{where}.labels", hint="leave them out")
    if data.labels is not None:
        from hubmerge.heterogeneous.mal_models import check_labels

        check_labels(data, parent, data.labels, f"{where}.labels")
    elif wrapper.labels == "loss" and not predicts_next(parent.config):
        name = str((parent.config.get("architectures") or ["it"])[0])
        raise PlanError(
            f"the calibration data of {parent.reference} has no labels, and the loss of {name} needs them",
            where=where,
            hint="add labels: the column of class numbers; only language models that predict the next token need none",
        )
    return facts


def _placed(fault: HubmergeError, where: str) -> HubmergeError:
    """A fault of the data with its place in this recipe."""
    if fault.where.startswith("calibration"):
        return type(fault)(fault.message, where=f"{where}{fault.where.removeprefix('calibration')}", hint=fault.hint)
    return fault


def _unlike_vocabularies(parents: Sequence[ParentModel]) -> list[HubmergeError]:
    """A fault for the first parent whose tokens have other ids than the first parent's: its logits cannot be compared."""
    first, *others = parents
    signature = first.record.tokenizer_signature
    for other in others:
        if signature is not None and other.record.tokenizer_signature == signature:
            continue
        left, right = (read_vocabulary(model.source, str(model.reference)) for model in (first, other))
        if left is not None and right is not None and dict(left.ids) != dict(right.ids):
            from hubmerge.heterogeneous.other_vocabularies import to_one_vocabulary

            return [
                PlanError(
                    f"{first.reference} and {other.reference} have different vocabularies, so that their logits cannot be compared",
                    where="models",
                    hint=to_one_vocabulary(first.reference),
                )
            ]
    return []


def _planned(
    wrapper: Wrapper,
    values: Values,
    parents: Sequence[ParentModel],
    facts: Sequence[CalibrationFacts],
    data: Sequence[TaskData],
    thin: int | None,
) -> PlannedPreparation:
    samples = tuple(own.samples or asked.samples for own, asked in zip(facts, data, strict=True))
    sizes = [sum(meta.numel for meta in parent.table.values()) for parent in parents]
    largest = [max(meta.numel for meta in parent.table.values()) for parent in parents]
    logits = [_logits(parent, own, asked) for parent, own, asked in zip(parents, facts, data, strict=True)]
    work = DataWork(
        values=values,
        samples=samples,
        weights=_SINGLE * max(sizes),
        largest=_SINGLE * max(largest),
        logits=tuple(_SINGLE * count * one for count, one in zip(samples, logits, strict=True)),
        answer=_SINGLE * max(logits),
        thin=thin,
    )
    told = wrapper.work(work)
    lines = [
        f"  {parent.reference}: {count} sample{'s' * (count != 1)} of {asked.data}, column {own.column}"
        + (f" with labels of column {asked.labels}" if asked.labels else "")
        for parent, own, asked, count in zip(parents, facts, data, samples, strict=True)
    ]
    lines += [f"  {line}" for line in told.lines]
    scratch = f", and {size_text(told.scratch)} of temporary files" if told.scratch else ""
    lines.append(f"  takes at most about {size_text(told.memory)} beside torch and what runs between layers{scratch}")
    notes = tuple(dict.fromkeys(note for own in facts for note in own.notes))
    return PlannedPreparation(tuple(facts), tuple(lines), told.memory, told.scratch, notes)


def _logits(parent: ParentModel, facts: CalibrationFacts, data: TaskData) -> int:
    """How many numbers a parent answers one sample with, at most."""
    if facts.kind == "text" and predicts_next(parent.config):
        limits = (data.max_length, longest_text(parent.config) or math.inf)
        return int(min(limits)) * (vocabulary_size(parent.config) or 0)
    return max(2, len(parent.config.get("id2label") or ()))
