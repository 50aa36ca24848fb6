"""How far the models of an assembly were brought together, in sentences: for the terminal and for the model card."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hubmerge.assembly_record import AssemblyRecord, DepthRecord, GroupRecord

__all__ = ["GroupRow", "depth_line", "group_rows", "how_far", "turned_lines"]


@dataclass(frozen=True)
class GroupRow:
    """Groups of one row of a family's table.

    name: the row, groups: how many there are.  units: of all models together, merged: of the merge, both over all groups; shared: how many
    units of the merge are several models'; similarity: the mean over all merged pairs, None where there are none.  support: where units
    are mixed, of how many of one model's units one of the merge is made, on average over the groups, for the model of which they are most.
    """

    name: str
    groups: int
    units: tuple[int, ...]
    merged: int
    shared: int
    similarity: float | None
    support: float | None = None


def _carried_lines(record: AssemblyRecord) -> tuple[str, ...]:
    """What was carried to the base model, a sentence for each kind of unit and for each model, and what is wrong with it."""
    lines = [*turned_lines(record, record.order[0])]
    for row in group_rows(record):
        alike = f", {_MEASURES[record.align]} {row.similarity:.2f} on average" if row.similarity is not None else ""
        what = f"{row.name} ({row.groups} groups)" if row.groups > 1 else row.name
        units = "1 unit" if row.shared == 1 else f"{row.shared} units"
        lines.append(f"{what}: {units} aligned with the {row.merged} of {record.order[0]}{alike}")
    for name, carried in zip(record.order[1:], record.transport or (), strict=True):
        lines.append(f"{name}: {carried.share:.1%} of the norm of what it learned on top of {carried.base} was carried")
    return (*lines, *_warned(record.warnings))


def _warned(warnings: Sequence[str]) -> tuple[str, ...]:
    return tuple(f"warning: {text}" for text in warnings)


def group_rows(record: AssemblyRecord) -> tuple[GroupRow, ...]:
    """The groups of an assembly, one row for each row of the family's table; for more than two models pairs with the base count."""
    rows: dict[str, list[GroupRecord]] = {}
    for group in record.groups.values():
        rows.setdefault(group.row, []).append(group)
    return tuple(_row(name, groups) for name, groups in rows.items())


def _row(name: str, groups: Sequence[GroupRecord]) -> GroupRow:
    pairs = [
        (matched, alike) for group in groups for matched, alike in zip(group.matched, group.similarity, strict=True)
    ]
    count = sum(matched for matched, _ in pairs)
    mixed = [max(group.support or (0.0,)) for group in groups]
    return GroupRow(
        name,
        len(groups),
        tuple(sum(sizes) for sizes in zip(*(group.sizes for group in groups), strict=True)),
        sum(group.merged for group in groups),
        count,
        sum(matched * alike for matched, alike in pairs) / count if count else None,
        sum(mixed) / len(groups) if any(mixed) else None,
    )


def how_far(record: AssemblyRecord) -> tuple[str, ...]:
    """What was aligned and how far, and what the merge costs, a sentence each."""
    if record.transport is not None:
        return _carried_lines(record)
    lines = [depth_line(depth) for depth in record.depths if depth is not None]
    lines += turned_lines(record, record.order[0])
    for row in group_rows(record):
        alike = f", {_MEASURES[record.align]} {row.similarity:.2f} on average" if row.similarity is not None else ""
        what = f"{row.name} ({row.groups} groups)" if row.groups > 1 else row.name
        units = " and ".join(map(str, row.units))
        how = "pairs merged" if row.support is None else "units sharing one with the base's"
        mixed = "" if row.support is None else f", each a mean of {row.support:.1f} of one model's"
        lines.append(f"{what}: {units} units become {row.merged}, {row.shared} {how}{alike}{mixed}")
    size = record.cost.parameters / record.base_cost.parameters
    work = record.cost.multiply_adds / record.base_cost.multiply_adds
    lines.append(f"cost: {size:.2f} times the base's parameters, {work:.2f} times its multiply-adds")
    return (*lines, *_warned(record.warnings))


def depth_line(depth: DepthRecord) -> str:
    """How the layers of a model of another depth went with the base's."""
    paired = [layer for layer in depth.layers if layer.partner is not None]
    alone = [layer.layer for layer in depth.layers if layer.partner is None]
    known = [layer.cka for layer in paired if layer.cka is not None]
    alike = f", CKA {sum(known) / len(known):.2f} on average where one of several was chosen" if known else ""
    text = f"layers: {len(paired)} pairs merged{alike}"
    text += f"; the base's alone: {', '.join(alone)}" if alone else ""
    return text + (f"; left out: {', '.join(depth.left_out)}" if depth.left_out else "")


def turned_lines(record: AssemblyRecord, base: str) -> tuple[str, ...]:
    """What was done to residual streams that were turned, a sentence; none where they were not.  base: what to call the base model."""
    if record.residual != "orthogonal":
        return ()
    alike = f", cosine {sum(record.turned) / len(record.turned):.2f} on average" if record.turned else ""
    how = f"as a whole (orthogonal Procrustes on the weights that read and write them{alike})"
    return (
        f"the residual streams were turned to that of {base} {how}, and the norms' gains absorbed by what reads behind them",
    )


_MEASURES = {
    "activations": "correlation",
    "weights": "cosine",
    "balanced": "similarity",
    "zip": "correlation",
    "optimal_transport": "correlation",
    "identity": "similarity",
}
