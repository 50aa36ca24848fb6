"""Kin with their names and labels -> the text of a table, in the notation of `zoo_index.families.family`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from hubmerge.symmetry.draft_kin import Kindred, Slot
from hubmerge.symmetry.draft_loops import Row
from hubmerge.symmetry.draft_trace import Traced
from hubmerge.symmetry.groups import Role

__all__ = ["TextRow", "compact", "lines_of", "tensor_rows"]


@dataclass(frozen=True)
class TextRow:
    """One row of tensors: its name, its axes, its condition.  optional: not every model stores it."""

    name: str
    axes: str
    condition: str = "True"
    optional: bool = False

    @property
    def stem(self) -> str:
        return self.name.rpartition(".")[0]

    @property
    def last(self) -> str:
        return self.name.rpartition(".")[2]


def tensor_rows(
    traced: Traced, kindred: Kindred, names: Mapping[Slot, str], ranks: Mapping[str, int]
) -> Iterator[TextRow]:
    """A row for each row of tensors.  names: of the group in each slot.  ranks: how many axes every tensor has."""
    copies = {name for name, _ in traced.tied}
    for number, row in enumerate(kindred.rows):
        tensor = row.tensors[0][0]
        optional = any(name in copies for name, _ in row.tensors)
        axes = traced.axes.get(tensor)
        if axes is None:
            yield TextRow(row.name, " ".join(["."] * ranks[tensor]) or "-", row.condition, True)
            continue
        texts = [_axis(traced, row, number, i, names) for i in range(len(axes))]
        yield TextRow(row.name, " ".join(texts) or "-", row.condition, optional)


def _axis(traced: Traced, row: Row, number: int, axis: int, names: Mapping[Slot, str]) -> str:
    tensor = row.tensors[0][0]
    segments = []
    for j, segment in enumerate(traced.axes[tensor][axis]):
        words = [names[Slot(number, axis, j, k)] for k in range(len(segment))]
        roles = [traced.role(tensor, axis, j, k) for k in range(len(segment))]
        segments.append(_segment(words, roles))
    if not segments:
        return "1"
    return segments[0] if len(segments) == 1 else f"[{'|'.join(segments)}]"


def _segment(words: Sequence[str], roles: Sequence[Role]) -> str:
    marked = [word if _is_number(word) else f"{role.value}{word}" for word, role in zip(words, roles, strict=True)]
    if len(words) == 1:
        return marked[0]
    named = {role for word, role in zip(words, roles, strict=True) if not _is_number(word)}
    if len(named) == 1 and named != {Role.WRITES}:
        return f"{named.pop().value}({' '.join(words)})"
    return f"({' '.join(marked)})"


def _is_number(word: str) -> bool:
    return word == "." or word.isdecimal()


_AXIS = re.compile(r"\[[^\]]*\]|[<=]?\([^)]*\)|\S+")


def compact(rows: Sequence[TextRow], norms: Mapping[str, str]) -> list[TextRow]:
    """Rows of one module in one row where the notation has a short form for them.  norms: group -> what normalises it."""
    found: list[TextRow] = []
    done: set[str] = set()
    by_name = {row.name: row for row in rows}
    for row in rows:
        if row.name in done:
            continue
        members, short = _short(row, by_name, norms)
        found.append(short)
        done.update(member.name for member in members)
    return found


def _short(row: TextRow, rows: Mapping[str, TextRow], norms: Mapping[str, str]) -> tuple[list[TextRow], TextRow]:
    own = {each.last: each for each in rows.values() if each.stem == row.stem}
    group = row.axes.removeprefix("=")
    alike = all((each.condition, each.optional) == (row.condition, row.optional) for each in own.values())
    texts = {last: each.axes for last, each in own.items()}
    follows = f"={group}"
    batch = {"weight": group, "bias": group, "running_mean": follows, "running_var": follows}
    if row.last == "weight" and " " not in row.axes and row.axes not in {".", "-"}:
        if {last: axes for last, axes in texts.items() if last != "num_batches_tracked"} == batch and len(own) == 5:
            return list(own.values()), TextRow(row.stem, f"batch norm: {group}", row.condition)
        if texts == {"weight": follows, "bias": group} and alike:
            return list(own.values()), TextRow(row.stem, f"layer norm: {group}", row.condition, row.optional)
        if texts == {"weight": follows} and norms.get(group) == "rms":
            return [row], TextRow(row.stem, f"rms norm: {group}", row.condition, row.optional)
    bias = own.get("bias")
    written = next((axis for axis in _AXIS.findall(row.axes) if not axis.startswith("<")), None)
    if row.last == "weight" and bias is not None and bias.axes == written and alike:
        return [row, bias], TextRow(f"{row.name}+bias", row.axes, row.condition, row.optional)
    return [row], row


def lines_of(table: Sequence[Sequence[str]]) -> list[str]:
    """Rows of columns as text, the columns under one another, two spaces apart; the last is as long as it is."""
    widths = [max((len(row[i]) for row in table if len(row) > i + 1), default=0) for i in range(max(map(len, table)))]
    return ["  ".join([*(text.ljust(widths[i]) for i, text in enumerate(row[:-1])), row[-1]]) for row in table]
