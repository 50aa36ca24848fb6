"""Which groups of an assembly are matched and how large they become, and which keep the order they have, with the reason."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from hubmerge.assembly_stages import AssemblyStages
from hubmerge.errors import PlanError
from hubmerge.heterogeneous.plan_types import PlannedGroup
from hubmerge.heterogeneous.stream_plan import stream_reason
from hubmerge.heterogeneous.unit_views import groups_with_features
from hubmerge.symmetry.costs import Sharing, sharing_at
from hubmerge.symmetry.groups import SymmetrySpec
from zoo_index.reference import ModelRef

__all__ = ["kept_groups", "matched_groups", "planned_groups", "sharing_of"]


def kept_groups(spec: SymmetrySpec, stages: AssemblyStages, base: ModelRef, told: str = "") -> dict[str, str]:
    """The groups that could be matched and are not, with the reason.  told: what decided on a residual stream, if anything did.

    Raises `PlanError` for a name in `without` that is none.
    """
    unknown = spec.unknown(stages.without)
    if unknown:
        raise PlanError(
            f"{base} has no group {min(unknown)!r}",
            where="align.without",
            hint=f"`hubmerge symmetry show {base}` lists them",
        )
    named, kept = spec.named(stages.without), {}
    for name, group in spec.groups.items():
        if group.outer is not None or not group.kind.permutes:
            continue
        if stages.align == "identity":
            kept[name] = "align: identity leaves all units as they stand"
        elif name in named:
            kept[name] = "align.without names it"
        elif group.normed_as_a_whole and stages.residual != "activations":
            kept[name] = stream_reason(spec, name, stages, told)
    return kept


def matched_groups(spec: SymmetrySpec, kept: Collection[str]) -> tuple[str, ...]:
    """The groups whose units are matched, as far as headers tell."""
    return tuple(
        name for name, group in spec.groups.items() if group.outer is None and group.kind.permutes and name not in kept
    )


def planned_groups(
    specs: Sequence[SymmetrySpec], sizes: Mapping[str, int], kept: Collection[str]
) -> tuple[PlannedGroup, ...]:
    """Every matched group.  specs: the base's first; sizes: of the merge."""
    heads = groups_with_features(specs[0])
    return tuple(
        PlannedGroup(
            name,
            specs[0].groups[name].row,
            tuple(spec.groups[name].size for spec in specs),
            sizes[name],
            sharing_of(specs, name, sizes[name]),
            name in heads,
        )
        for name in matched_groups(specs[0], kept)
    )


def sharing_of(specs: Sequence[SymmetrySpec], group: str, merged: int) -> Sharing:
    """Of which models the units of a merged group are where as many as possible are merged; what does not fit is left out."""
    return sharing_at(merged, tuple(min(spec.groups[group].size, merged) for spec in specs))
