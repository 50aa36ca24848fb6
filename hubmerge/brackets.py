"""Exact ranks from one pass over a tensor: a sample tells about where a rank lies, the pass counts exactly there and above.

The sample only saves work.  Where it misleads, nothing is found here, and who asked counts all over.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from hubmerge import measure_kernels
from hubmerge.measures import Array

__all__ = ["BYTES", "FEWEST", "SPAN", "SPANS", "Bracket", "bracket_of", "count_brackets", "sample_spans"]

FEWEST = 1 << 20
"""Entries from which on a sample is worth its time."""
SPANS, SPAN = 64, 512
"""The sample: so many runs of so many neighbouring entries."""
_GOLDEN = (math.sqrt(5) - 1) / 2
_SAFETY = 5.0
"""Standard errors of the sample's share on either side."""
_MOST_NUMBERS = 1 << 22
"""Numbers that the brackets of one tensor may span, each with a count of four bytes."""
_WIDEST = 1 << 21
"""Numbers that one bracket may span: a quarter of the magnitudes between a power of two and the next."""
BYTES = 4 * (_MOST_NUMBERS + _WIDEST)
"""Most that is held while a tensor is counted."""
_BLOCK = 4096
"""Entries whose places in a bracket are noted before they are counted: few enough for the nearest cache."""
_LARGEST = 0x7F800000
"""The bits of infinity: no finite magnitude has more."""


@dataclass(frozen=True)
class Bracket:
    """The magnitudes, as bits, that a rank of one operand is looked for in, both ends included."""

    operand: int
    rank: int
    low: int
    high: int


def sample_spans(entries: int) -> list[tuple[int, int]]:
    """Where the sample is read: evenly spread, at irregular distances, so that it keeps to no column of a matrix."""
    starts = (int((i + 1) * _GOLDEN % 1.0 * (entries - SPAN)) for i in range(SPANS))
    return [(start, start + SPAN) for start in sorted(starts)]


def bracket_of(sample: Array, operand: int, rank: int, entries: int) -> Bracket:
    """Where the `rank`-th largest of `entries` magnitudes will lie.

    sample: uint32 (SPANS, SPAN), bits of magnitudes.  How far the share above a magnitude differs from run to run says how
    far it may be from the tensor's: neighbours are alike, so a count of the entries would promise too much.
    """
    ordered = np.sort(sample, axis=None)
    count, share = ordered.size, rank / entries
    near = ordered[count - 1 - min(int(share * count), count - 1)]
    error = float((sample > near).mean(axis=1).std()) / math.sqrt(SPANS)
    margin = math.ceil((_SAFETY * error + 4 / count) * count)
    place = count - 1 - int(share * count)
    low = int(ordered[place - margin]) if place >= margin else 0
    high = int(ordered[place + margin]) if place + margin < count else _LARGEST
    return Bracket(operand, rank, low, high)


def count_brackets(
    brackets: Sequence[Bracket], chunks: Iterable[tuple[Array, ...]], *, minus_base: bool
) -> list[np.float32] | None:
    """The magnitude of each bracket's rank, or None where one of them is not in its bracket, or the brackets are too wide.

    chunks: the bits of all inputs, chunk by chunk.  minus_base: the first of them is the base, and the operands are the others'
    differences from it.
    """
    widths = [bracket.high - bracket.low + 1 for bracket in brackets]
    if sum(widths) > _MOST_NUMBERS or max(widths, default=0) > _WIDEST:
        return None
    counts = tuple(np.zeros(width, np.int32) for width in widths)
    which = np.array([bracket.operand for bracket in brackets], np.int64)
    low, high = (np.array([getattr(bracket, end) for bracket in brackets], np.uint32) for end in ("low", "high"))
    above = np.zeros(len(brackets), np.int64)
    places, inside = np.empty(_BLOCK, np.uint32), np.empty(_BLOCK + 1, np.uint32)
    run = measure_kernels.bracket_counts_kernel(minus_base)
    for base, *parents in chunks:
        run(base, tuple(parents) if minus_base else (base, *parents), which, low, high, counts, above, places, inside)
    found = [_in_bracket(*rows) for rows in zip(brackets, above.tolist(), counts, strict=True)]
    return None if None in found else found  # type: ignore[return-value]


def _in_bracket(bracket: Bracket, above: int, counts: Array) -> np.float32 | None:
    wanted = bracket.rank - above
    if not 1 <= wanted <= int(counts.sum()):
        return None
    from_top = int(np.searchsorted(np.cumsum(counts[::-1], dtype=np.int32), wanted))
    return np.float32(np.uint32(bracket.high - from_top).view(np.float32))
