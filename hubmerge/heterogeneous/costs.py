"""What an assembly becomes and costs, before anything is run: sizes by the recipe's widths, parameters, multiply-adds, memory."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from hubmerge.align_choices import is_matched_on_data
from hubmerge.alignment.costs import memory_of_weights
from hubmerge.assembly_stages import AssemblyStages
from hubmerge.calibration.check import kind_of_first, locate
from hubmerge.calibration.local_rows import rows_of
from hubmerge.calibration.model_side import kinds_taken
from hubmerge.calibration.samples import is_blank, sample_of
from hubmerge.errors import PlanError
from hubmerge.heterogeneous.checks import check_sizes, matchable
from hubmerge.heterogeneous.depths import config_at_depth
from hubmerge.heterogeneous.groups import matched_groups, sharing_of
from hubmerge.heterogeneous.labels import GROUP as LABELS
from hubmerge.heterogeneous.labels import MergedLabels
from hubmerge.heterogeneous.memory import Needs, memory_of_sums, memory_of_turning, needs_of
from hubmerge.heterogeneous.positions import picture_size, planned_positions
from hubmerge.heterogeneous.sizing import Widths, merged_widths
from hubmerge.heterogeneous.stream_plan import turned_groups, untied_sizes
from hubmerge.parents import ParentModel
from hubmerge.recipe_calibration import Calibration
from hubmerge.symmetry.costs import Cost, Sharing, block_cost, dense_cost
from hubmerge.symmetry.errors import SymmetryError
from hubmerge.symmetry.groups import SymmetrySpec

__all__ = ["PlannedSizes", "planned_sizes", "sides_of"]


@dataclass(frozen=True)
class PlannedSizes:
    """sizes: of every group of the merge.  changed: the config's fields with their new values.  exact: whether the costs and, under a
    budget, the sizes are those of the merge's own inputs, and not those of a uniform budget for a greedy one.  needs: of memory, estimates.
    """

    sizes: Mapping[str, int]
    changed: Mapping[str, int]
    base_cost: Cost
    cost: Cost
    blocks: Cost
    exact: bool
    needs: Needs


def planned_sizes(
    models: Sequence[ParentModel],
    specs: Sequence[SymmetrySpec],
    stages: AssemblyStages,
    labels: MergedLabels | None,
    kept: Collection[str],
    aligned: Collection[str] = (),
    *,
    samples: int,
) -> PlannedSizes:
    """models, specs: the base's first, specs at its depth.  labels: None without a head.  kept: groups that are not matched.  aligned: groups
    whose entries are aligned one by one, as tokens are.  samples: of the calibration data, at most; 0 without any.

    Raises `PlanError` for groups whose sizes differ and that nothing brings together, `SymmetryError` for a budget that cannot be kept.
    """
    maps = labels.maps if labels is not None else {}
    turned = turned_groups(specs[0], stages)
    hint = (
        "align: identity leaves units in the order they have: write align: activations"
        if stages.align == "identity"
        else None
    )
    check_sizes(specs, {*matchable(specs[0], kept), *maps, *turned, *aligned}, hint)
    positions = planned_positions(specs[0], models[0].config, sides_of(models[0], stages.calibration))
    try:
        chosen = merged_widths(
            [config_at_depth(model.config, models[0].config) for model in models],
            specs,
            Widths(stages.widths, stages.ratio, stages.budget),
            positions=positions.of_tensors,
            grown=labels.grown if labels is not None else None,
        )
    except SymmetryError as fault:
        where = "align.widths" if stages.budget is None else "align.budget"
        raise PlanError(fault.message, where=where, hint=fault.hint) from fault
    sizes = {name: chosen.sizes.get(name, group.size) for name, group in specs[0].groups.items()}
    _check_kept(specs[0], sizes, kept)
    sharing: dict[str, Sharing] = {
        name: sharing_of(specs, name, sizes[name]) for name in matched_groups(specs[0], kept)
    }
    if LABELS in maps:
        sizes[LABELS] = maps[LABELS][0].unit.size
        counts = [int((part.unit >= 0).sum()) for part in maps[LABELS]]
        if sum(counts) == sizes[LABELS]:
            sharing[LABELS] = tuple((frozenset({i}), count) for i, count in enumerate(counts))
    usual = dict.fromkeys(specs[0].tensors, stages.calibration.max_length if stages.calibration else 1)
    merged = dense_cost(specs[0], sizes, positions.of_tensors)
    merged = replace(merged, parameters=merged.parameters + sum(untied_sizes(specs[0], stages)))
    needs = needs_of(
        specs,
        sizes,
        positions.of_tensors or usual,
        (samples, stages.calibration.batch if stages.calibration is not None else 0),
        fits=stages.fit != "none",
        matching=_memory_of_matching(_matched_together(models, specs, stages), stages, kept),
    )
    return PlannedSizes(
        sizes,
        chosen.changed,
        dense_cost(specs[0], {}, positions.of_tensors),
        merged,
        block_cost(specs[0], sharing, positions.of_tensors),
        positions.known and stages.policy == "uniform",
        needs,
    )


def _matched_together(
    models: Sequence[ParentModel], specs: Sequence[SymmetrySpec], stages: AssemblyStages
) -> list[Sequence[SymmetrySpec]]:
    """Which symmetries are matched at once: those of all models, or of the target with the base of each."""
    if not stages.bases:
        return [specs]
    others = zip(models[1:], specs[1:], strict=True)
    return [(specs[0], spec) for model, spec in others if model.reference in stages.bases]


def _memory_of_matching(
    together: Sequence[Sequence[SymmetrySpec]], stages: AssemblyStages, kept: Collection[str]
) -> int:
    """The most that any of them takes: by what units compute, by their weights, and to turn streams; one after the other."""
    found = [0]
    for specs in together:
        if is_matched_on_data(stages.align):
            found.append(memory_of_sums(specs))
        turned = bool(turned_groups(specs[0], stages))
        if turned:
            found.append(memory_of_turning(specs))
        if stages.align in {"weights", "balanced"} and not (turned and stages.bases):
            found.append(memory_of_weights(specs[0], matched_groups(specs[0], kept)))
    return max(found)


def _check_kept(spec: SymmetrySpec, sizes: Mapping[str, int], kept: Collection[str]) -> None:
    """`PlanError` where a group would get more units though none of it are matched."""
    grown = next((name for name in kept if sizes[name] != spec.groups[name].size), None)
    if grown is not None:
        raise PlanError(
            f"group {grown!r} would grow from {spec.groups[grown].size} to {sizes[grown]} units, and none of it are matched",
            where="align",
            hint="match it, or write widths: base",
        )


def sides_of(base: ParentModel, calibration: Calibration | None) -> tuple[int, int] | None:
    """Height and width of the pictures that the models will be run on, where that can be told."""
    if calibration is None:
        return None
    found = locate(calibration, kinds_taken(base.source), None)
    if found.files is None:
        return picture_size(base.source)
    rows = (row for row in rows_of(found.files, found.column) if not is_blank(row.value))
    first = next(islice(rows, 1), None)
    kind = kind_of_first(first, calibration, found.column)
    if kind != "pixels" or first is None:
        return picture_size(base.source)
    shape = sample_of(first, kind, found.files.root).value.shape  # type: ignore[union-attr]  # pixels are arrays
    return int(shape[1]), int(shape[2])
