"""Names of tensors -> rows: which of the numbers in them count layers, and how often each of these loops runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from hubmerge.symmetry.draft_sizes import Seen, SizeFinder, nearest
from hubmerge.symmetry.draft_small import LAYERS, WIDTH_LISTS

__all__ = ["Loops", "Row", "rows_of"]

Turn = Mapping[str, int]


@dataclass(frozen=True)
class Row:
    """Tensors that differ in the numbers of loops only.

    name: with variables in braces.  tensors: each with its turn.  condition: of the turns, "True" for all.
    """

    name: str
    tensors: tuple[tuple[str, Turn], ...]
    condition: str = "True"


@dataclass(frozen=True)
class Loops:
    """variable -> how often, an expression; and the rows of the first small model's tensors, in their order."""

    counts: Mapping[str, str]
    rows: tuple[Row, ...]


@dataclass
class _Name:
    """A tensor's name as far as it is read."""

    tensor: str
    parts: list[str]
    turn: dict[str, int]
    rank: int


def rows_of(shapes: Sequence[Mapping[str, tuple[int, ...]]], finder: SizeFinder) -> Loops:
    """The rows of a model of which two small ones are given by the shapes of their tensors."""
    names = [[_Name(name, name.split("."), {}, len(shape)) for name, shape in each.items()] for each in shapes]
    counts: dict[str, str] = {}
    for place in range(max(len(name.parts) for name in names[0])):
        for prefix in dict.fromkeys(tuple(name.parts[:place]) for name in names[0] if _is_number(name, place)):
            here = [[n for n in each if tuple(n.parts[:place]) == prefix and _is_number(n, place)] for each in names]
            count = _count(here, place, finder, prefix) if here[1] else None
            if count is not None:
                variable = _letter(prefix, counts, finder)
                counts[variable] = count
                for name in (*here[0], *here[1]):
                    name.turn[variable] = int(name.parts[place])
                    name.parts[place] = f"{{{variable}}}"
    return Loops(counts, tuple(_rows(names[0])))


def _is_number(name: _Name, place: int) -> bool:
    return len(name.parts) > place and name.parts[place].isdecimal()


def _count(here: Sequence[Sequence[_Name]], place: int, finder: SizeFinder, prefix: Sequence[str]) -> str | None:
    """How often the loop runs whose numbers stand at `place`; None where these are no loop's."""
    if "0" not in {name.parts[place] for name in here[0]} or not _are_alike(here[0], place):
        return None
    seen = []
    for which, names in enumerate(here):
        last: dict[tuple[tuple[str, int], ...], int] = {}
        for name in names:
            turn = tuple(name.turn.items())
            last[turn] = max(last.get(turn, 0), int(name.parts[place]))
        seen += [Seen(which, dict(turn), number + 1) for turn, number in last.items()]
    fields = [name for name in finder.fields if LAYERS.search(name)]
    outer = here[0][0].turn
    fields += [f"len({name})" for name in finder.lists if WIDTH_LISTS.search(name) and not outer]  # stages hold layers
    fields += [f"{name}[{variable}]" for name in finder.lists for variable in outer]
    return next((text for text in nearest(fields, prefix) if finder.gives(text, seen)), None)


def _are_alike(names: Iterable[_Name], place: int) -> bool:
    """Whether tensors of one name in different turns have equally many axes."""
    ranks: dict[tuple[str, ...], set[int]] = {}
    for name in names:
        ranks.setdefault(tuple(name.parts[place + 1 :]), set()).add(name.rank)
    return all(len(each) == 1 for each in ranks.values())


def _letter(prefix: Sequence[str], taken: Iterable[str], finder: SizeFinder) -> str:
    words = [word for word in reversed(prefix) if word.isidentifier()]
    letters = [word[0].lower() for word in words] + list("lbsijkmnpqrtuvwxyz")
    return next(letter for letter in letters if letter not in taken and letter not in finder.fields)


def _rows(names: Sequence[_Name]) -> Iterable[Row]:
    found: dict[str, list[_Name]] = {}
    turns: dict[str, set[int]] = {}
    for name in names:
        found.setdefault(".".join(name.parts), []).append(name)
        for variable, number in name.turn.items():
            turns.setdefault(variable, set()).add(number)
    for pattern, own in found.items():
        yield from _conditioned(pattern, own, turns)


def _conditioned(pattern: str, names: Sequence[_Name], turns: Mapping[str, set[int]]) -> Iterable[Row]:
    """One row, where need be only of the first turn or of the others; else a row for each tensor."""
    conditions = []
    for variable in list(names[0].turn):
        there = {name.turn[variable] for name in names}
        if there == {0} and len(turns[variable]) > 1:
            pattern = pattern.replace(f"{{{variable}}}", "0")
            for name in names:
                del name.turn[variable]
        elif there == turns[variable] - {0} and len(turns[variable]) > 1:
            conditions.append(f"{variable} > 0")
        elif there != turns[variable]:
            return [Row(name.tensor, ((name.tensor, {}),)) for name in names]
    tensors = tuple((name.tensor, dict(name.turn)) for name in names)
    return [Row(pattern, tensors, " and ".join(conditions) or "True")]
