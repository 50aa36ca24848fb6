"""How a table is laid out: aligned columns, and on a narrow terminal text in several lines of its own column."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import zip_longest
from textwrap import wrap

__all__ = ["laid_out"]

_GAP = "  "


def laid_out(rows: Sequence[Sequence[str]], right: Sequence[bool], room: int | None) -> Iterator[str]:
    """The lines of a table, without blanks at their ends.

    rows: the cells, the columns' names first; right: which columns are aligned to the right, and stay in one line.  room: the width
    of the terminal, None for one without end.  Words are never broken: a table whose words need more room takes it.
    """
    columns = [*zip(*rows, strict=True)]
    widths = [max(map(len, column)) for column in columns]
    if room is not None:
        least = [w if r else _longest_word(c) for c, w, r in zip(columns, widths, right, strict=True)]
        widths = _narrowed(widths, least, room - len(_GAP) * (len(widths) - 1))
    wrapped = [[[c] if len(c) <= w else _lines(c, w) for c, w in zip(row, widths, strict=True)] for row in rows]
    widths = [max(len(line) for cell in column for line in cell) for column in zip(*wrapped, strict=True)]
    for row_of_lines in wrapped:
        for line in zip_longest(*row_of_lines, fillvalue=""):
            padded = (c.rjust(w) if r else c.ljust(w) for c, w, r in zip(line, widths, right, strict=True))
            yield _GAP.join(padded).rstrip()


def _narrowed(widths: Sequence[int], least: Sequence[int], room: int) -> list[int]:
    """Widths that add up to `room`: the widest are made smaller, none below its `least`; the widths as they are if that is too much."""
    if sum(least) > room:
        return [*widths]
    narrowed = [*widths]
    while (excess := sum(narrowed) - room) > 0:
        i = max((i for i, w in enumerate(narrowed) if w > least[i]), key=narrowed.__getitem__)
        others = max((w for j, w in enumerate(narrowed) if j != i), default=0)
        narrowed[i] = max(least[i], narrowed[i] - excess, min(others, narrowed[i] - 1))
    return narrowed


def _lines(cell: str, width: int) -> list[str]:
    return wrap(cell, width, break_long_words=False, break_on_hyphens=False) or [""]


def _longest_word(column: Sequence[str]) -> int:
    return max((len(word) for cell in column for word in cell.split()), default=0)
