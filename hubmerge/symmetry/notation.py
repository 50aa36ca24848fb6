"""The rows of a family's table, read: the notation is told in `zoo_index.families.family`.

Only the shape of the text is read here; what it means for one model is `hubmerge.symmetry.load`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from hubmerge.symmetry.groups import Kind, Role
from zoo_index.families import Family

__all__ = ["GroupRow", "MarkedFactor", "PairRow", "Table", "TensorRow", "parse_axes", "parse_table"]

_COLUMNS = re.compile(r"\s{2,}")
_AXIS = re.compile(r"\[[^\]]*\]|[<=]?\([^)]*\)|\S+")


@dataclass(frozen=True)
class GroupRow:
    """``name  kind  size  [in outer]  [norm kind]  [if condition]``."""

    name: str
    kind: Kind
    size: str
    outer: str | None
    norm: str | None
    condition: str


@dataclass(frozen=True)
class TensorRow:
    """One tensor of every turn of the loops.

    axes: None for a scalar.  together: the name of what must be stored entirely or not at all (an optional block, or this row
    in all layers); None for a row that must be there.
    """

    name: str
    axes: str | None
    condition: str
    together: str | None


@dataclass(frozen=True)
class PairRow:
    """Two names that are one: groups (``same``) or tensors (``tied``, the second is the stored one)."""

    first: str
    second: str
    condition: str


@dataclass(frozen=True)
class Table:
    """All rows of a family."""

    groups: tuple[GroupRow, ...]
    same: tuple[PairRow, ...]
    tensors: tuple[TensorRow, ...]
    tied: tuple[PairRow, ...]


@dataclass(frozen=True)
class MarkedFactor:
    """One factor as it is written.  name: of a group, a number, or ``.``."""

    role: Role
    name: str


@lru_cache(maxsize=64)
def _parsed(groups: str, tensors: str) -> Table:
    lines = [line for line in map(str.strip, groups.splitlines()) if line]
    group_rows = [_group_row(line) for line in lines if not line.startswith("same  ")]
    same = [_pair(line) for line in lines if line.startswith("same  ")]
    tensor_rows: list[TensorRow] = []
    tied, block = [], None
    for line in map(str.strip, tensors.splitlines()):
        if not line:
            block = None
        elif line.startswith("? "):
            block = line
        elif line.startswith("tied  "):
            tied.append(_pair(line))
        else:
            tensor_rows.extend(_tensor_rows(line, block))
    return Table(tuple(group_rows), tuple(same), tuple(tensor_rows), tuple(tied))


def parse_table(family: Family) -> Table:
    """The rows of `family`, in order."""
    return _parsed(family.groups, family.tensors)


def _split(line: str) -> tuple[list[str], str]:
    """The columns of a row and its condition."""
    *columns, last = _COLUMNS.split(line)
    return (columns, last.removeprefix("if ")) if last.startswith("if ") else ([*columns, last], "True")


def _pair(line: str) -> PairRow:
    (_, first, second), condition = _split(line)
    return PairRow(first, second, condition)


def _group_row(line: str) -> GroupRow:
    (name, kind, size, *rest), condition = _split(line)
    told = dict(column.split(" ", 1) for column in rest)
    return GroupRow(name, Kind(kind), size, told.get("in"), told.get("norm"), condition)


def _tensor_rows(line: str, block: str | None) -> Iterator[TensorRow]:
    optional = line.startswith("?")
    (name, axes), condition = _split(line.removeprefix("?"))
    for tensor, its_axes, own in _expanded(name, axes):
        yield TensorRow(tensor, its_axes, condition, f"{name}{own}" if optional or own else block)


def _expanded(name: str, axes: str) -> Iterator[tuple[str, str | None, str]]:
    """The tensors of a row: name, axes, and a mark for what may be absent by itself."""
    if " norm: " in axes:
        norm, _, group = axes.partition(" norm: ")
        yield f"{name}.weight", group if norm == "batch" else f"={group}", ""
        if norm != "rms":
            yield f"{name}.bias", group, ""
        if norm == "batch":
            yield f"{name}.running_mean", f"={group}", ""
            yield f"{name}.running_var", f"={group}", ""
            yield f"{name}.num_batches_tracked", None, "#"
        return
    stem, both, mark = name.partition(".weight+bias")
    if not both:
        yield name, None if axes == "-" else axes, ""
        return
    yield f"{stem}.weight", axes, ""
    yield f"{stem}.bias", next(axis for axis in _AXIS.findall(axes) if not axis.startswith("<")), mark


@lru_cache(maxsize=4096)
def parse_axes(text: str | None) -> tuple[tuple[tuple[MarkedFactor, ...], ...], ...]:
    """The axes as written: for each its segments, for each its factors.  The expressions in braces are filled in before."""
    if text is None:
        return ()
    return tuple(_axis(axis) for axis in _AXIS.findall(text))


def _axis(text: str) -> tuple[tuple[MarkedFactor, ...], ...]:
    segments = text[1:-1].split("|") if text.startswith("[") else [text]
    return tuple(_segment(segment) for segment in segments)


def _segment(text: str) -> tuple[MarkedFactor, ...]:
    shared = text[0] if text[0] in "<=" else ""
    inner = text.removeprefix(shared)
    words = inner[1:-1].split() if inner.startswith("(") else [inner]
    return tuple(
        MarkedFactor(Role(word[0] if word[0] in "<=" else shared), word.lstrip("<=")) for word in words if word
    )
