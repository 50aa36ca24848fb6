"""Exact ranks from one pass over a tensor: a sample tells about where a rank lies, the pass counts exactly there and above.

The sample only saves work.  Where it misleads, nothing is found here, and who asked counts all over.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hubmerge import bracket_kernels, measure_kernels
from hubmerge.io.reader import StepReader
from hubmerge.measures import Array, Ranks

__all__ = [
    "BYTES",
    "FEWEST",
    "SPAN",
    "SPANS",
    "Bracket",
    "bracket_of",
    "cell_of_rank",
    "outside",
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
_HITS = 1 << 20
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


Score = Callable[..., Any]
"""A rule that makes one float32 of an entry's operands."""


def ranked_where_sampled(
    reader: StepReader, ranks: Ranks, ranges: Iterable[tuple[int, int]], score: Score | None = None
) -> tuple[Array, ...] | None:
    """The magnitudes of ranks of a step's operands, or of a score of them, as `Measure.ranked` gives them.

    None where the sample did not help.  ranges: the chunks that the tensor is read in.
    """
    entries = reader.step.output.numel
    sample = _sample(reader, score)
    likely = [round(float((each != 0).mean()) * entries) if callable(ranks) else 0 for each in sample]
    brackets = [
        bracket_of(magnitudes, operand, rank, entries, share_of=count)
        for operand, (magnitudes, count, row) in enumerate(zip(sample, likely, _ranks(ranks, likely), strict=True))
        for rank in row
        if 1 <= rank <= entries
    ]
    counted = _counted(reader, brackets, ranges, score) if brackets else None
    if counted is None:
        return None
    inside, above, zeros = counted
    differing = [entries] * len(sample)
    for bracket, count in zip(brackets, zeros, strict=True):
        differing[bracket.operand] = entries - count
    asked = _ranks(ranks, differing)
    wanted = [rank for row in asked for rank in row if 1 <= rank <= entries]
    if len(wanted) != len(brackets):
        return None
    found = iter([inside.number(j, rank - above[j]) for j, rank in enumerate(wanted)])
    numbers = [[next(found) if 1 <= rank <= entries else outside(rank) for rank in row] for row in asked]
    if any(number is None for row in numbers for number in row):
        return None
    return tuple(np.array(row, np.float32) for row in numbers)


def _ranks(ranks: Ranks, differing: Sequence[int]) -> Sequence[Sequence[int]]:
    return ranks(tuple(differing)) if callable(ranks) else ranks


def outside(rank: int) -> float:
    """The magnitude of a rank that no entry has: the zeroth is reached by none, that after the last by all."""
    return math.inf if rank < 1 else 0.0


def _sample(reader: StepReader, score: Score | None) -> list[Array]:
    """Magnitudes of every operand, or of the scores, in the sample's runs, as bits: uint32 (runs, entries of a run)."""
    step, runs = reader.step, sample_spans(reader.step.output.numel)
    gathered = [np.empty((len(runs), runs[0][1] - runs[0][0]), reader.bits) for _ in step.inputs]
    for i, (first, last) in enumerate(runs):
        for into, chunk in zip(gathered, reader.read(first, last), strict=True):
            into[i] = chunk
    flat = tuple(each.ravel() for each in gathered)
    bits = tuple(np.empty(flat[0].size, np.uint32) for _ in step.operands)
    measure_kernels.operands_kernel(step.base is not None)(flat[0], flat[1:] if step.base else flat, bits)
    if score is not None:
        operands, out = tuple(each.view(np.float32) for each in bits), np.empty(flat[0].size, np.float32)
        entry, nothing = (np.float32(0),) * len(operands), np.zeros((1, 1), np.float32)
        run = measure_kernels.scores_kernel(score, "none")
        run(operands, entry, nothing, (np.float32(0),), 1, 0, (), out)
        bits = (out.view(np.uint32),)
    return [(each & np.uint32(0x7FFFFFFF)).reshape(gathered[0].shape) for each in bits]


def sample_spans(entries: int) -> list[tuple[int, int]]:
    """Where the sample is read: evenly spread, at irregular distances, so that it keeps to no column of a matrix.

    It grows with the root of the tensor's size, and so do the numbers that are inside a bracket.
    """
    length = min(SPAN * max(1, math.isqrt(entries // (4 * FEWEST))), entries)
    starts = (int((i + 1) * _GOLDEN % 1.0 * (entries - length)) for i in range(SPANS))
    return [(start, start + length) for start in sorted(starts)]


def bracket_of(sample: Array, operand: int, rank: int, entries: int, *, share_of: int = 0) -> Bracket:
    """Where the `rank`-th largest of `entries` magnitudes will lie.

    sample: uint32 (runs, entries of a run), bits of magnitudes.  How far the share above a magnitude differs from run to run
    says how far it may be from the tensor's: neighbours are alike, so a count of the entries would promise too much.
    share_of: how many magnitudes are not 0, if the rank is a share of them, and known as well as they are.
    """
    count, few = sample.size, sample[:, ::8].ravel()
    place, near = (
        values.size - 1 - min(int(rank / entries * values.size), values.size - 1) for values in (sample, few)
    )
    shares = (sample > np.partition(few, near)[near]).mean(axis=1)
    if share_of:
        shares -= rank / share_of * (sample != 0).mean(axis=1)
    error = float(shares.std()) / math.sqrt(len(sample))
    margin = math.ceil((_SAFETY * error + 4 / count) * count)
    ends = max(place - margin, 0), min(place + margin, count - 1)
    ordered = np.partition(sample, ends, axis=None)  # a third of the time of sorting it
    low = int(ordered[ends[0]]) if place >= margin else 0
    high = int(ordered[ends[1]]) if place + margin < count else _LARGEST
    return Bracket(operand, rank, low, high)


def _counted(
    reader: StepReader, brackets: Sequence[Bracket], ranges: Iterable[tuple[int, int]], score: Score | None
) -> tuple[_Inside, list[int], list[int]] | None:
    """What is inside every bracket, how many magnitudes are above it, and of a score how many are 0; None if it is too much."""
    minus_base, inside = reader.step.base is not None, _Inside(brackets)
    which = np.array([bracket.operand for bracket in brackets], np.int64)
    low, high = (np.array([getattr(bracket, end) for bracket in brackets], np.uint32) for end in ("low", "high"))
    above, zeros = np.zeros(len(brackets), np.int64), np.zeros(len(brackets), np.int64)
    places, near = np.empty(_BLOCK, np.uint32), np.empty(_BLOCK // bracket_kernels.ROWS, np.uint32)
    entry = (np.float32(0),) * len(reader.step.operands)
    run = bracket_kernels.bracket_kernel(minus_base, score)
    for start, stop in ranges:
        chunks, done = reader.read(start, stop), 0
        operands = chunks[1:] if minus_base else chunks
        while done < stop - start:
            done = run(
                chunks[0], operands, entry, which, low, high, above, zeros, inside.hits, inside.found, places, near,
                np.uint64(done),
            )  # fmt: skip
            if done < stop - start and not inside.make_room():
                return None
    return inside, above.tolist(), zeros.tolist()


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
        bracket_kernels.upper_counts_kernel()(self.hits[j, : self.found[j]], np.uint32(0), cells)
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
        bracket_kernels.upper_counts_kernel()(noted, np.uint32(shift), counts)
        upper, rest = cell_of_rank(counts, rank)
        return int(np.sort(noted[noted >> np.uint32(shift) == upper])[-rest])


def cell_of_rank(counts: Array, rank: int) -> tuple[int, int]:
    """The cell of the `rank`-th largest of what was counted, and its rank in that cell."""
    above = np.cumsum(counts[::-1], dtype=np.int64)
    at = int(np.searchsorted(above, rank))
    return counts.size - 1 - at, rank - (int(above[at - 1]) if at else 0)
