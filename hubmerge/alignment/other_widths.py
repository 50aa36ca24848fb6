"""Which groups of two models have other numbers of units, and whether a model can be brought to the base's all the same."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from hubmerge.alignment.common import Specs, refuse_other_groups
from hubmerge.alignment.plan_types import ResizedGroup
from hubmerge.errors import PlanError
from hubmerge.heterogeneous.align_stage import mixable
from hubmerge.heterogeneous.checks import GIVEN
from hubmerge.heterogeneous.depths import with_sizes
from hubmerge.heterogeneous.other_vocabularies import instead_of_one_vocabulary
from hubmerge.heterogeneous.stream_form import is_turnable
from hubmerge.symmetry.groups import Group, Kind
from zoo_index.families import POSITION_FIELDS

__all__ = ["check_units", "resized_groups"]

_GIVEN: Mapping[Kind, str] = {
    Kind.FIXED: GIVEN,
    Kind.LABELS: "merge_method: pleas keeps both heads with labels: disjoint",
}


def resized_groups(specs: Specs, parent: int, *, fold: bool) -> tuple[ResizedGroup, ...]:
    """The groups of which the second model, the plan's parent `parent`, has other numbers of units than the first, the base."""
    ours, theirs = (spec.groups for spec in specs)
    may = mixable(specs[0]) if fold else ()
    return tuple(
        ResizedGroup(
            parent,
            name,
            group.row,
            group.size,
            theirs[name].size,
            outer=ours[group.outer].row if group.outer else None,
            folds=name in may and group.outer is None,
        )
        for name, group in ours.items()
        if theirs[name].size != group.size
    )


def check_units(specs: Specs, names: tuple[str, str], without: Collection[str]) -> None:
    """Raise `PlanError`, for all reasons together, unless the second model can be brought to the units of the first, the base.

    names: what errors call the two.  without: groups, by name or row, whose units stay where they are.  Units that change places may be
    more or fewer; what is inside them, and what a norm over all units stands on, may not.
    """
    sizes = {name: group.size for name, group in specs[0].groups.items()}
    known = specs[0].groups.keys() == specs[1].groups.keys()
    refuse_other_groups(specs[0], with_sizes(specs[1], sizes) if known else specs[1], *names)
    faults: dict[object, PlanError] = {}
    kept = specs[0].named(without)
    for group in specs[0].groups.values():
        units = specs[1].groups[group.name].size
        obstacle = _obstacle(specs, group, units, names, kept) if units != group.size else None
        if obstacle is not None:
            message, hint = obstacle
            inside = group.outer is not None and not group.kind.permutes
            faults.setdefault(
                (group.size, units) if inside else group.row, PlanError(message, where=names[1], hint=hint)
            )
    if faults:
        first, *rest = faults.values()
        raise PlanError.of([first, *rest]) if rest else first


def _obstacle(
    specs: Specs, group: Group, units: int, names: Sequence[str], kept: Collection[str]
) -> tuple[str, str] | None:
    """Why the second model's units of a group cannot become the base's, and what to do; None where they can.  kept: left out by the recipe."""
    entries, own_units, features = (
        f"{group.size} {word} in {names[0]} and {units} in {names[1]}" for word in ("entries", "units", "features")
    )
    if group.kind is Kind.TOKENS:
        return f"group {group.name!r} ({group.kind.value}) has {entries}", instead_of_one_vocabulary(names[0], *specs)
    if group.kind is Kind.POSITIONS:
        brought = "merge_method: pleas brings tables of positions to the base's length"
        same = "take a model with as many positions"
        known = specs[0].family in POSITION_FIELDS
        return f"group {group.name!r} ({group.kind.value}) has {entries}", brought if known else same
    if group.kind in _GIVEN:
        return f"group {group.name!r} ({group.kind.value}) has {entries}", _GIVEN[group.kind]
    if group.normed_as_a_whole and group.kind.permutes:
        usual = f"take a model with {group.size} units there; its hidden units and its number of heads may be others"
        turned = "merge_method: transport carries what a model learned on top of a base of another width; or "
        return (
            f"group {group.name!r} stands under a norm of all its units ({group.norm}), and has {own_units}",
            turned + usual if is_turnable(specs[0]) else usual,
        )
    if {group.name, group.outer} & set(kept):
        return (
            f"align.without keeps {group.name!r} as it stands, and it has {own_units}",
            "take it out of align.without",
        )
    if group.outer is not None and not group.kind.permutes:
        why = (
            "they are in no order of their own, so that none can be left out"
            if group.kind is Kind.INVERTIBLE
            else "rotary planes of heads of another size turn at other speeds"
        )
        usual = f"take a model with heads of {group.size} features; their number may be another"
        mal = "merge_method: mal matches such heads on data; or "
        return f"a head has {features}, and {why}", usual if group.kind is not Kind.INVERTIBLE else mal + usual
    if not group.kind.permutes:
        return (
            f"group {group.name!r} ({group.kind.value}) has {entries}",
            "only groups whose units change places may differ in size; `hubmerge symmetry show` lists them",
        )
    return None
