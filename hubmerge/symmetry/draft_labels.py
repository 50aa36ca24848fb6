"""Which of its kin a row means in each turn of its loops, as a label: nothing, the loops' variables, or a number computed from them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from hubmerge.symmetry.draft_kin import Kin, Kindred, Slot
from hubmerge.symmetry.draft_loops import Loops
from hubmerge.symmetry.draft_sizes import Seen, SizeFinder
from hubmerge.symmetry.draft_trace import Traced

__all__ = ["Declared", "Labels", "labels_of"]

Turn = Mapping[str, int]


@dataclass(frozen=True)
class Declared:
    """One row of groups.  label: what follows the name; size: an expression."""

    label: str
    size: str


@dataclass(frozen=True)
class Labels:
    """What follows a kin's name: where its groups are declared, and in every slot."""

    declared: tuple[Declared, ...]
    slots: Mapping[Slot, str]


@dataclass(frozen=True)
class _Place:
    """A slot in one turn: the index there, and its size in both small models."""

    slot: Slot
    turn: Turn
    index: int
    sizes: tuple[int, int]


def labels_of(
    traced: Sequence[Traced], kindred: Kindred, kin: Kin, loops: Loops, finder: SizeFinder, names: Sequence[str]
) -> Labels | None:
    """The labels of one kin; None where there are none, or where no expression gives its size.

    traced: both small models.  names: of modules, for sizes that several fields have.
    """
    places = list(_places(traced, kindred, kin))
    if any(len(place.sizes) < 2 for place in places):
        return None
    if len(kin.indices) == 1:
        return _declared([("", {}, places[:1])], {place.slot: "" for place in places}, finder, names)
    for variables in _shared(kindred, kin):
        turns: dict[int, set[tuple[int, ...]]] = {}
        for place in places:
            turns.setdefault(place.index, set()).add(tuple(place.turn[variable] for variable in variables))
        if all(len(each) == 1 for each in turns.values()) and len(set(map(min, turns.values()))) == len(turns):
            label = ".".join(f"{{{variable}}}" for variable in variables)
            return _declared([(label, None, places)], {place.slot: label for place in places}, finder, names)
    return _numbered(kindred, kin, places, loops, finder, names)


def _places(traced: Sequence[Traced], kindred: Kindred, kin: Kin) -> Iterator[_Place]:
    """The slots of a kin in all turns; of a second model that is built otherwise no size."""
    for slot in kin.slots:
        for name, turn in kindred.rows[slot.row].tensors:
            sizes = []
            for model in traced:
                axis = model.axes[name][slot.axis] if name in model.axes else ()
                if slot.segment < len(axis) and slot.factor < len(axis[slot.segment]):
                    sizes.append(model.sizes[axis[slot.segment][slot.factor]])
            index = traced[0].axes[name][slot.axis][slot.segment][slot.factor]
            yield _Place(slot, turn, index, tuple(sizes))  # type: ignore[arg-type]


def _shared(kindred: Kindred, kin: Kin) -> Iterator[tuple[str, ...]]:
    """The variables that every row of the kin has, few first."""
    turns = [kindred.rows[slot.row].tensors[0][1] for slot in kin.slots]
    common = [variable for variable in turns[0] if all(variable in turn for turn in turns)]
    for number in range(1, len(common) + 1):
        yield from itertools.combinations(common, number)


def _declared(
    parts: Sequence[tuple[str, Turn | None, Sequence[_Place]]],
    slots: Mapping[Slot, str],
    finder: SizeFinder,
    names: Sequence[str],
) -> Labels | None:
    """Labels whose sizes are found.  parts: label, the turn of its places where it is not their own, places."""
    rows = []
    for label, turn, places in parts:
        seen = []
        for place in places:
            own = {variable: n for variable, n in place.turn.items() if f"{{{variable}" in label}
            seen += [Seen(which, own if turn is None else turn, place.sizes[which]) for which in (0, 1)]
        size = finder.expression(seen, names)
        if size is None:
            return None
        rows.append(Declared(label, size))
    return Labels(tuple(rows), slots)


def _numbered(
    kindred: Kindred, kin: Kin, places: Sequence[_Place], loops: Loops, finder: SizeFinder, names: Sequence[str]
) -> Labels | None:
    """Kin that go from turn to turn, as the stages of a network do, in the order in which they are met."""
    number = {index: place for place, index in enumerate(kin.indices)}
    slots: dict[Slot, str] = {}
    for slot in kin.slots:
        seen = [Seen(0, place.turn, number[place.index]) for place in places if place.slot == slot]
        text = next((each for each in _numbers(seen, loops) if finder.gives(each, seen)), None)
        if text is None or ("(" in text and len(_segment(kindred, slot)) > 1):
            return None
        slots[slot] = text if text.isdecimal() else f"{{{text}}}"
    first = {place.index: place for place in reversed(places)}
    for variable in loops.counts:
        turns = {turn[variable] for row in kindred.rows for _, turn in row.tensors if variable in turn}
        for shift in (0, 1):
            if len(turns) + shift != len(kin.indices):
                continue
            label = f"{{{variable}}}" if not shift else f"{{{variable}+{shift}}}"
            one = [
                _Place(place.slot, {variable: number[index] - shift}, index, place.sizes)
                for index, place in first.items()
                if number[index] >= shift
            ]
            parts: list[tuple[str, Turn | None, Sequence[_Place]]] = [
                (str(k), {}, [first[kin.indices[k]]]) for k in range(shift)
            ]
            found = _declared([*parts, (label, None, one)], slots, finder, names)
            if found is not None:
                return found
    return _declared([(str(k), {}, [first[index]]) for index, k in number.items()], slots, finder, names)


def _segment(kindred: Kindred, slot: Slot) -> Sequence[Slot]:
    return [
        other
        for kin in kindred.kin.values()
        for other in kin.slots
        if (other.row, other.axis, other.segment) == (slot.row, slot.axis, slot.segment)
    ]


def _numbers(seen: Sequence[Seen], loops: Loops) -> Iterator[str]:
    variables = list(seen[0].turn)
    yield "0"
    for one in variables:
        yield from (one, f"{one}+1", f"{one}-1")
        yield from (f"{one}+({other}>0)" for other in variables if other != one)
    yield from (f"{count}{less}" for count in loops.counts.values() if "[" not in count for less in ("", "-1"))
    if not variables:
        yield str(seen[0].number)
