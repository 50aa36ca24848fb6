"""Exact ranks from one pass over a tensor: a sample tells about where a rank lies, the pass counts exactly there and above.

The sample only saves work.  Where it misleads, nothing is found here, and who asked counts all over.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from hubmerge import measure_kernels
from hubmerge.io.reader import StepReader
from hubmerge.measures import Array

__all__ = [
    "BYTES",
    "FEWEST",
    "SPAN",
    "SPANS",
    "Bracket",
    "bracket_of",
    "cell_of_rank",
    "count_brackets",
    "ranked_where_sampled",
    "sample_spans",
]

FEWEST = 1 << 20
"""Entries from which on a sample is worth its time."""
SPANS, SPAN = 32, 1024
"""The sample: so many runs of so many neighbouring entries, more of them in a large tensor."""
_GOLDEN = (math.sqrt(5) - 1) / 2
_SAFETY = 4.0
"""Standard errors of the sample's share on either side."""
_BLOCK = 4096
"""Entries that are gone through at a time: few enough for the nearest cache."""
_HITS = 1 << 21
"""Numbers inside all brackets of a tensor that are held, of four bytes each."""
_MOST_CELLS = 1 << 20
"""Numbers that the brackets of a tensor may span, where more than these are inside: each is then counted, in four bytes."""
_COARSE_BITS = 11
"""What is inside a bracket is first told apart by so many bits."""
BYTES = 4 * (2 * _HITS + 3 * _MOST_CELLS)
"""Most that is held while a tensor is counted."""
_LARGEST = 0x7F800000
"""The bits of infinity: no finite magnitude has more."""


@dataclass(frozen=True)
class Bracket:
    """The magnitudes, as bits, that a rank of one operand is looked for in, both ends included."""

    operand: int
    rank: int
    low: int
    high: int


def ranked_where_sampled(
    reader: StepReader, wanted: Sequence[tuple[int, int]], ranges: Iterable[tuple[int, int]]
) -> dict[tuple[int, int], np.float32] | None:
    """The magnitudes of ranks of a step's operands (operand, rank: 1 the largest), or None where the sample did not help.

    ranges: the chunks that the tensor is read in.
    """
    minus_base, entries = reader.step.base is not None, reader.step.output.numel
    sample = _sample(reader)
    brackets = [bracket_of(sample[operand], operand, rank, entries) for operand, rank in wanted]
    found = count_brackets(brackets, (reader.read(low, high) for low, high in ranges), minus_base=minus_base)
    return None if found is None else dict(zip(wanted, found, strict=True))


def _sample(reader: StepReader) -> list[Array]:
    """Magnitudes of every operand in the sample's runs, as bits: uint32 (runs, entries of a run)."""
    step, runs = reader.step, sample_spans(reader.step.output.numel)
    gathered = [np.empty((len(runs), runs[0][1] - runs[0][0]), reader.bits) for _ in step.inputs]
    for i, (first, last) in enumerate(runs):
        for into, chunk in zip(gathered, reader.read(first, last), strict=True):
            into[i] = chunk
    flat = tuple(each.ravel() for each in gathered)
    bits = tuple(np.empty(flat[0].size, np.uint32) for _ in step.operands)
    measure_kernels.operands_kernel(step.base is not None)(flat[0], flat[1:] if step.base else flat, bits)
    return [(each & np.uint32(0x7FFFFFFF)).reshape(gathered[0].shape) for each in bits]


def sample_spans(entries: int) -> list[tuple[int, int]]:
    """Where the sample is read: evenly spread, at irregular distances, so that it keeps to no column of a matrix.

    It grows with the root of the tensor's size, and so do the numbers that are inside a bracket.
    """
    length = min(SPAN * max(1, math.isqrt(entries // (4 * FEWEST))), entries)
    starts = (int((i + 1) * _GOLDEN % 1.0 * (entries - length)) for i in range(SPANS))
    return [(start, start + length) for start in sorted(starts)]


def bracket_of(sample: Array, operand: int, rank: int, entries: int) -> Bracket:
    """Where the `rank`-th largest of `entries` magnitudes will lie.

    sample: uint32 (runs, entries of a run), bits of magnitudes.  How far the share above a magnitude differs from run to run says how
    far it may be from the tensor's: neighbours are alike, so a count of the entries would promise too much.
    """
    count, few = sample.size, sample[:, ::8].ravel()
    place, near = (
        values.size - 1 - min(int(rank / entries * values.size), values.size - 1) for values in (sample, few)
    )
    error = float((sample > np.partition(few, near)[near]).mean(axis=1).std()) / math.sqrt(len(sample))
    margin = math.ceil((_SAFETY * error + 4 / count) * count)
    ends = max(place - margin, 0), min(place + margin, count - 1)
    ordered = np.partition(sample, ends, axis=None)  # a third of the time of sorting it
    low = int(ordered[ends[0]]) if place >= margin else 0
    high = int(ordered[ends[1]]) if place + margin < count else _LARGEST
    return Bracket(operand, rank, low, high)


def count_brackets(
    brackets: Sequence[Bracket], chunks: Iterable[tuple[Array, ...]], *, minus_base: bool
) -> list[np.float32] | None:
    """The magnitude of each bracket's rank, or None where one of them is not in its bracket, or too much is.

    chunks: the bits of all inputs, chunk by chunk.  minus_base: the first of them is the base, and the operands are the others'
    differences from it.
    """
    inside = _Inside(brackets)
    which = np.array([bracket.operand for bracket in brackets], np.int64)
    low, high = (np.array([getattr(bracket, end) for bracket in brackets], np.uint32) for end in ("low", "high"))
    above = np.zeros(len(brackets), np.int64)
    places, near = np.empty(_BLOCK, np.uint32), np.empty(_BLOCK // measure_kernels.ROWS, np.uint32)
    run = measure_kernels.bracket_kernel(minus_base)
    for base, *parents in chunks:
        operands, done = tuple(parents) if minus_base else (base, *parents), 0
        while done < base.size:
            done = run(
                base, operands, which, low, high, above, inside.hits, inside.found, places, near, np.uint64(done)
            )
            if done < base.size and not inside.make_room():
                return None
    found = [inside.number(j, bracket.rank - int(above[j])) for j, bracket in enumerate(brackets)]
    return None if None in found else found  # type: ignore[return-value]


class _Inside:
    """What was met inside brackets: noted one by one, as long as there is room, then counted by its value."""

    def __init__(self, brackets: Sequence[Bracket]) -> None:
        self._low = [bracket.low for bracket in brackets]
        self._widths = [bracket.high - bracket.low + 1 for bracket in brackets]
        self._room = _HITS // len(brackets)
        self._cells: dict[int, Array] = {}
        self.hits = np.empty((len(brackets), self._room + _BLOCK + 1), np.uint32)
        self.found = np.zeros(len(brackets), np.uint64)

    def make_room(self) -> bool:
        """Count what is noted of the brackets that are full; False where these span too many values for that."""
        full = [j for j, noted in enumerate(self.found) if noted > self._room]
        if sum(self._widths[j] for j in {*full, *self._cells}) > _MOST_CELLS:
            return False
        for j in full:
            self._count(j)
        return True

    def _count(self, j: int) -> None:
        cells = self._cells.setdefault(j, np.zeros(self._widths[j], np.int32))
        cells += np.bincount(self.hits[j, : self.found[j]], minlength=cells.size)
        self.found[j] = 0

    def number(self, j: int, rank: int) -> np.float32 | None:
        """The `rank`-th largest of what was met in the j-th bracket; None where there is no such."""
        if j in self._cells:
            self._count(j)
        noted = self.hits[j, : self.found[j]]
        total = int(self._cells[j].sum()) if j in self._cells else noted.size
        if not 1 <= rank <= total:
            return None
        place = cell_of_rank(self._cells[j], rank)[0] if j in self._cells else self._noted_place(j, noted, rank)
        return np.float32(np.uint32(self._low[j] + place).view(np.float32))

    def _noted_place(self, j: int, noted: Array, rank: int) -> int:
        """The `rank`-th largest of `noted`: a count by the upper bits leaves few to be sorted."""
        shift = max(0, self._widths[j].bit_length() - _COARSE_BITS)
        counts = np.zeros((self._widths[j] >> shift) + 1, np.int32)
        measure_kernels.upper_counts_kernel()(noted, np.uint32(shift), counts)
        upper, rest = cell_of_rank(counts, rank)
        return int(np.sort(noted[noted >> np.uint32(shift) == upper])[-rest])


def cell_of_rank(counts: Array, rank: int) -> tuple[int, int]:
    """The cell of the `rank`-th largest of what was counted, and its rank in that cell."""
    above = np.cumsum(counts[::-1], dtype=np.int64)
    at = int(np.searchsorted(above, rank))
    return counts.size - 1 - at, rank - (int(above[at - 1]) if at else 0)
