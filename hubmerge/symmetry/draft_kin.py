"""Indices that stand at one place of a row in different turns of its loops are kin: a table has one row for all of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from hubmerge.symmetry.draft_loops import Row
from hubmerge.symmetry.draft_trace import Segments, Traced
from hubmerge.symmetry.groups import Kind, Role

__all__ = ["Kin", "Kindred", "Slot", "kindred_of"]


@dataclass(frozen=True)
class Slot:
    """A place in a row: one factor of one segment of one axis."""

    row: int
    axis: int
    segment: int
    factor: int


@dataclass(frozen=True)
class Kin:
    """What one row of groups will stand for.

    indices: in the order in which they are met.  slots: where they stand.  outer: the number of the kin that they are nested in,
    one for each entry.  kind: what may be done to them; FIXED for what stays as it is, and why: the reason, where it is known.
    norm: what normalises them.
    """

    indices: tuple[int, ...]
    slots: tuple[Slot, ...]
    outer: int | None = None
    kind: Kind = Kind.PERMUTATION
    norm: str | None = None
    why: str = ""

    @property
    def is_free(self) -> bool:
        return self.kind is not Kind.FIXED

    def fixed(self, why: str) -> Kin:
        return replace(self, kind=Kind.FIXED, why=self.why or why)


@dataclass(frozen=True)
class Kindred:
    """All kin of a model, by number, and where each stands.

    rows: of its tensors.  at: index -> the number of its kin.
    """

    rows: tuple[Row, ...]
    kin: Mapping[int, Kin]
    at: Mapping[int, int]

    def with_kin(self, number: int, kin: Kin) -> Kindred:
        return replace(self, kin={**self.kin, number: kin})

    def role(self, traced: Traced, slot: Slot) -> Role:
        """How the slot's axis takes part, told by the row's first tensor."""
        name = self.rows[slot.row].tensors[0][0]
        return traced.role(name, slot.axis, slot.segment, slot.factor)


def kindred_of(traced: Traced, rows: Sequence[Row]) -> Kindred:
    """The kin of a traced model.  Rows whose tensors are not built alike are taken apart."""
    apart = tuple(part for row in rows for part in _alike(traced, row))
    parent: dict[int, int] = {}

    def root(index: int) -> int:
        parent.setdefault(index, index)
        while parent[index] != index:
            index = parent[index]
        return index

    slots: dict[int, list[Slot]] = {}
    order: list[int] = []
    for slot, indices in _slots(traced, apart):
        order += indices
        for index in indices[1:]:
            parent[root(index)] = root(indices[0])
        slots.setdefault(indices[0], []).append(slot)
    kin: dict[int, Kin] = {}
    members: dict[int, list[int]] = {}
    for index in dict.fromkeys(order):
        members.setdefault(root(index), []).append(index)
    for number, indices in members.items():
        own = tuple(slot for index in indices for slot in slots.get(index, ()))
        held = any(index in traced.held for index in indices)
        norms = {traced.norms.get(index) for index in indices}
        kin[number] = Kin(
            tuple(indices),
            own,
            None,
            Kind.FIXED if held else Kind.PERMUTATION,
            norms.pop() if len(norms) == 1 else None,
        )
    kindred = Kindred(apart, kin, {index: number for number, indices in members.items() for index in indices})
    return replace(
        kindred, kin={number: replace(each, outer=_outer(traced, kindred, each)) for number, each in kin.items()}
    )


def _alike(traced: Traced, row: Row) -> Iterator[Row]:
    built = {_build(traced.axes.get(name, ())) for name, _ in row.tensors}
    if len(built) == 1:
        yield row
    else:
        yield from (Row(name, ((name, {}),)) for name, _ in row.tensors)


def _build(axes: Sequence[Segments]) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(len(segment) for segment in axis) for axis in axes)


def _slots(traced: Traced, rows: Sequence[Row]) -> Iterator[tuple[Slot, list[int]]]:
    for number, row in enumerate(rows):
        tensors = [traced.axes[name] for name, _ in row.tensors if name in traced.axes]
        for i, axis in enumerate(tensors[0] if tensors else ()):
            for j, segment in enumerate(axis):
                for k in range(len(segment)):
                    yield Slot(number, i, j, k), [tensor[i][j][k] for tensor in tensors]


def _outer(traced: Traced, kindred: Kindred, kin: Kin) -> int | None:
    """The kin whose entries these are inside of wherever they stand; None where they stand anywhere by themselves."""
    first = set()
    for slot in kin.slots:
        if slot.factor == 0:
            return None
        name = kindred.rows[slot.row].tensors[0][0]
        first.add(kindred.at[traced.axes[name][slot.axis][slot.segment][0]])
    return first.pop() if len(first) == 1 else None
