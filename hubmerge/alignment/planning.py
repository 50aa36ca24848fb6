"""`plan_alignment`: a recipe's `align` and the parents' headers in, a `PlannedAlignment` out.  No weights are read, no torch is loaded."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace

from hubmerge.alignment.common import Specs, common_spec, specs_of_two
from hubmerge.alignment.costs import memory_of_folds, memory_of_weights, seconds_of_activations, seconds_of_weights
from hubmerge.alignment.in_base_shapes import copied_files, own_tensors
from hubmerge.alignment.other_widths import check_units, resized_groups
from hubmerge.alignment.padded import widened
from hubmerge.alignment.plan_types import MatchedGroup, PlannedAlignment
from hubmerge.alignment_checks import aligned_models, alignment_method, order_of
from hubmerge.calibration.check import CalibrationFacts, check_calibration, most_samples
from hubmerge.calibration.model_side import vocabulary_size
from hubmerge.errors import PlanError
from hubmerge.heterogeneous.costs import sides_of
from hubmerge.heterogeneous.functions import HALVING, check_functions
from hubmerge.heterogeneous.memory import memory_of_matching
from hubmerge.heterogeneous.other_vocabularies import instead_of_one_vocabulary
from hubmerge.heterogeneous.parents import vocabulary_findings
from hubmerge.heterogeneous.plan import refuse_several_inputs
from hubmerge.heterogeneous.positions import planned_positions
from hubmerge.parents import ParentModel, refuse_adapter
from hubmerge.plan_notes import STATISTICS_ARE_AVERAGED
from hubmerge.plan_types import Plan
from hubmerge.recipe import Recipe
from hubmerge.symmetry.groups import Kind, SymmetrySpec
from zoo_index.errors import HubmergeError

__all__ = ["aligned_plan", "plan_alignment"]

_GIVEN = frozenset({Kind.TOKENS, Kind.POSITIONS, Kind.LABELS, Kind.FIXED})


def plan_alignment(
    recipe: Recipe, models: Sequence[ParentModel], pins: Mapping[str, str] | None = None
) -> PlannedAlignment | None:
    """Decide what can be decided about a recipe's alignment; None where it asks for none.

    models: one for each of the recipe's references, in their order.  pins: the commit of a calibration dataset, by its name in the recipe.

    Raises `PlanError` and `SymmetryError` for models that cannot be brought into one order, for all of them together, and `PlanError` and
    `HubError` for the data.
    """
    aligned = aligned_models(recipe)
    if not aligned or recipe.align is None:
        return None
    places = {model.reference: i for i, model in enumerate(models)}
    base, others = models[places[order_of(recipe)]], [models[places[reference]] for reference in aligned]
    method = alignment_method(recipe)
    assert method != "identity"
    by_activations = method == "activations"
    specs, warnings = _checked(base, others, recipe.align.without, on_data=by_activations)
    spec = specs[0][0]
    kept = _kept(recipe, spec, base, by_activations=by_activations)
    groups = tuple(
        MatchedGroup(name, group.row, group.size)
        for name, group in spec.groups.items()
        if group.outer is None and group.kind.permutes and name not in kept
    )
    calibration = _calibration(recipe, base, pins or {})
    statistics = any(name.endswith("running_mean") for name in spec.tensors)
    if calibration is not None and not by_activations and not statistics:
        warnings.append("calibration is of no use: units are matched by weights, and there is no BatchNorm")
    if by_activations:
        costs = [_costs_on_data(recipe, pair, base, groups, calibration) for pair in specs]
    else:
        names = [group.name for group in groups]
        wide = [widened(pair) for pair in specs]
        costs = [(memory_of_weights(each, names), seconds_of_weights(each, names)) for each in wide]
    fold = recipe.align.widths == "fold"
    tables = max(memory_of_folds(pair, [group.name for group in groups]) for pair in specs) if fold else 0
    resized = [
        group
        for reference, pair in zip(aligned, specs, strict=True)
        for group in resized_groups(pair, places[reference], fold=fold)
    ]
    own = own_tensors(models, places[order_of(recipe)], [places[reference] for reference in aligned])
    changed = {place for place, _ in own}
    return PlannedAlignment(
        method="activations" if by_activations else "weights",
        base=places[order_of(recipe)],
        others=tuple(places[reference] for reference in aligned),
        family=spec.family,
        groups=groups,
        kept=kept,
        min_similarity=recipe.align.min_similarity if by_activations else None,
        calibration=calibration,
        statistics=statistics,
        copied=sum(_copied(base, model, is_resized=places[model.reference] in changed) for model in others),
        memory=max(memory for memory, _ in costs) + tables,
        seconds=sum(seconds for _, seconds in costs),
        widths="fold" if fold else "base",
        resized=tuple(resized),
        stored=own,
        warnings=tuple(warnings),
        notes=(*_notes(base, others, calibration, statistics=statistics),),
    )


def aligned_plan(plan: Plan, alignment: PlannedAlignment | None, *, strict: bool) -> Plan:
    """`plan` with its alignment, and what that says; strict: its warnings are errors."""
    if alignment is None:
        return plan
    if strict and alignment.warnings:
        hint = "mend it, or leave out --strict"
        raise PlanError.of([PlanError(warning, where="--strict", hint=hint) for warning in alignment.warnings])
    facts = alignment.calibration
    content = [plan.hash, "alignment", _REVISION, facts and [facts.column, facts.commit]]
    told = [text for text in alignment.warnings if text not in plan.warnings]
    own, notes = (
        tuple(text for text in texts if text != STATISTICS_ARE_AVERAGED) for texts in (plan.warnings, plan.notes)
    )
    return replace(
        plan,
        alignment=alignment,
        warnings=(*told, *own, *alignment.notes),
        notes=(*notes, *alignment.notes),
        hash=hashlib.sha256(json.dumps(content).encode()).hexdigest(),
    )


_REVISION = 1
"""Raised whenever an alignment's numbers change."""


def _checked(
    base: ParentModel, others: Sequence[ParentModel], without: Sequence[str], *, on_data: bool
) -> tuple[list[Specs], list[str]]:
    """The symmetries of the base and of every other model, and what should be known of the models."""
    faults: list[HubmergeError] = []
    warnings: list[str] = []
    specs = []
    for model in others:
        names = (str(base.reference), str(model.reference))
        try:
            for each in (base, model):
                refuse_adapter(each.reference, "a model with an adapter is not aligned")
            specs.append(_specs(base, model, names, without))
            halving = HALVING if on_data else ()
            warnings += check_functions(
                [base.config, model.config], names, told=_told(base, model), side_by_side=halving
            )
            warnings += vocabulary_findings(base, model, *specs[-1])
        except HubmergeError as fault:
            faults += [each for each in fault.faults if str(each) not in map(str, faults)]
    if faults:
        raise faults[0] if len(faults) == 1 else PlanError.of(faults)
    return specs, warnings


def _told(base: ParentModel, model: ParentModel) -> set[str]:
    """Fields of two configs that every plan warns of (`hubmerge.plan_notes`)."""
    from zoo_index.compat import compare

    return {reason.field for reason in compare(base.record, model.record).reasons if reason.severity == "warn"}


def _specs(base: ParentModel, model: ParentModel, names: tuple[str, str], without: Sequence[str]) -> Specs:
    """The symmetries of two models that can be brought into one order, of the same widths or of others."""
    specs = specs_of_two(base, model, *names)
    if vocabulary_size(base.config) != vocabulary_size(model.config):
        both = common_spec(base, model, *names, unlike=instead_of_one_vocabulary(names[0], *specs))
        return both, both
    check_units(specs, names, without)
    return specs


def _copied(base: ParentModel, model: ParentModel, *, is_resized: bool) -> int:
    """Bytes of the weight files of a model's copy."""
    if not is_resized:
        return sum(model.source.files()[name] for name in model.table.files)
    shapes = {name: meta.shape for name, meta in base.table.items()}
    return sum(size for layout in copied_files(model, shapes).values() for size in layout.sizes.values())


def _kept(recipe: Recipe, spec: SymmetrySpec, base: ParentModel, *, by_activations: bool) -> dict[str, str]:
    """The outermost groups that stay as they are, with the reason.  Raises `PlanError` for a name in `without` that is none."""
    assert recipe.align is not None
    unknown = spec.unknown(recipe.align.without)
    if unknown:
        raise PlanError(
            f"{base.reference} has no group {min(unknown)!r}",
            where="align.without",
            hint=f"`hubmerge symmetry show {base.reference}` lists them",
        )
    named, kept = spec.named(recipe.align.without), {}
    for name, group in spec.groups.items():
        if name in named:
            kept[name] = "align.without names it"
        elif group.kind in _GIVEN:
            kept[name] = "what its entries are is given from outside"
        elif by_activations and group.normed_as_a_whole:
            kept[name] = f"a norm over all its units ({group.norm}); matched by activations, merges became worse"
        elif group.kind.is_linear and not (by_activations and group.kind is Kind.INVERTIBLE):
            kept[name] = "it is turned or mixed, not reordered"
    return kept


def _calibration(recipe: Recipe, base: ParentModel, pins: Mapping[str, str]) -> CalibrationFacts | None:
    if recipe.calibration is None:
        return None
    refuse_several_inputs(base, "write align: weights without calibration, which needs no data")
    return check_calibration(recipe.calibration, base.source, base.config, pins.get(recipe.calibration.data))


def _costs_on_data(
    recipe: Recipe,
    specs: Specs,
    base: ParentModel,
    groups: Sequence[MatchedGroup],
    calibration: CalibrationFacts | None,
) -> tuple[int, float]:
    assert recipe.calibration is not None
    spec = specs[0]
    positions = planned_positions(spec, base.config, sides_of(base, recipe.calibration)).of_tensors
    uses = positions or dict.fromkeys(spec.tensors, recipe.calibration.max_length)
    names = [group.name for group in groups]
    samples = most_samples(recipe.calibration, calibration)
    return (
        memory_of_matching(specs, uses, min(samples, recipe.calibration.batch)),
        seconds_of_activations(widened(specs), names, samples, uses),
    )


def _notes(
    base: ParentModel, others: Sequence[ParentModel], calibration: CalibrationFacts | None, *, statistics: bool
) -> list[str]:
    notes = list(calibration.notes) if calibration is not None else []
    shared = set.intersection(*(_ancestors(model) for model in (base, *others)))
    if shared:
        notes.append(
            f"align: all models come from {min(shared)} and most likely stand in one order already, so that there is little to gain; "
            "units that are much alike may be moved all the same"
        )
    if statistics and calibration is None:
        notes.append(
            "align: statistics of BatchNorm are averaged, which fits no merge of models trained apart; with calibration they are estimated anew"
        )
    return notes


def _ancestors(model: ParentModel) -> set[str]:
    """The model by its name, and those that its files declare it to come from."""
    return {str(model.reference), *(edge.parent for edge in model.record.base_models if edge.confidence != "low")}
