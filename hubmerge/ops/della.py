"""The stage that keeps entries of a delta at random, the larger ones more likely (DELLA's MagPrune)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy import float32
from pydantic import Field

from hubmerge.errors import RecipeError
from hubmerge.jit import jitable
from hubmerge.marks import MARKED
from hubmerge.method import Measure, Parameters, PerParent, Stage
from hubmerge.ops.random import uniform_bits
from hubmerge.ops.rescale import NormRescale, norm_factors

__all__ = ["DELLA", "DellaParameters", "keep_by_rank"]

State = tuple[np.uint64, np.float64, np.float64, np.float32, np.ndarray[Any, np.dtype[np.uint8]], np.bool_]

_UNIT = 2.0**32
_PACKS = np.uint64(0x0102040810204080)
"""Eight bytes that are 0 or 1, as one number, times this: the upper eight bits are theirs, the first the lowest."""
_SPREADS, _EACH = np.uint64(0x0101010101010101), np.uint64(0x8040201008040201)
"""A byte times the first has eight copies; the second leaves one of its bits in each."""


class DellaParameters(Parameters):
    density: PerParent[float] = Field(
        1.0, gt=0, le=1, description="mean probability with which an entry is kept; 1 keeps all"
    )
    epsilon: PerParent[float] = Field(
        0.15,
        ge=0,
        lt=1,
        description="a row's smallest entry is kept with density - epsilon, its largest with density + epsilon",
    )
    rescale: NormRescale = Field(
        "l1", description="l1 (or true): scale what is kept so that the L1 norm stays; none (or false)"
    )


@jitable
def _bins(magnitudes: Any, width: Any, bins: Any) -> None:
    """Sort magnitudes' bits into bins of ascending value: 0 for zero, then 2^width even ones over eight octaves.

    The octaves are five below and three above the geometric mean of those that are not zero, as far as bits tell it, which a
    few large entries do not move; what lies outside goes into the first or last bin.
    """
    total, count = np.int64(0), np.int64(0)
    for i in range(magnitudes.size):
        total += np.int64(magnitudes[i])
        count += np.int64(magnitudes[i] != np.uint32(0))
    floor = np.int32(max(total // max(count, np.int64(1)) - (5 << 23), np.int64(0)))
    last, shift = np.int32((1 << width) - 1), np.int32(26 - width)
    for i in range(magnitudes.size):
        above = max(np.int32(magnitudes[i]) - floor, np.int32(0)) >> shift
        bins[i] = np.uint32((np.int32(1) + min(np.int32(above), last)) * np.int32(magnitudes[i] != np.uint32(0)))


@jitable
def _limit(low: Any, step: Any, rank: Any) -> Any:
    """What a draw must be below to keep an entry of this rank, which can lie halfway between two."""
    return np.uint32(min(np.ceil(low + step * rank), _UNIT - 1))


@jitable
def _rank(magnitudes: Any, value: Any) -> Any:
    """The rank, from 0, of a value in its row: the mean of the ranks that all entries of this value take up."""
    smaller, equal = np.int32(0), np.int32(0)
    for i in range(magnitudes.size):
        smaller += np.int32(magnitudes[i] < value)
        equal += np.int32(magnitudes[i] == value)
    return smaller + (equal - 1) / 2


@jitable
def _keep_sorted(magnitudes: Any, draws: Any, low: Any, step: Any, kept: Any) -> None:
    """`kept` of a whole row by sorting its places, digit by digit: numba's own sort takes seconds to compile."""
    n = magnitudes.size
    order, following = np.arange(n), np.empty(n, np.int64)
    for digit in range(4):
        shift = np.uint32(8 * digit)
        starts = np.zeros(257, np.int64)
        for i in range(n):
            starts[np.int64(magnitudes[i] >> shift & np.uint32(255)) + 1] += 1
        for b in range(1, 257):
            starts[b] += starts[b - 1]
        for j in range(n):
            value = np.int64(magnitudes[order[j]] >> shift & np.uint32(255))
            following[starts[value]] = order[j]
            starts[value] += 1
        order, following = following, order
    first = 0
    while first < n:
        last = first
        while last + 1 < n and magnitudes[order[last + 1]] == magnitudes[order[first]]:
            last += 1
        limit = _limit(low, step, (first + last) / 2)
        for j in range(first, last + 1):
            kept[order[j]] = draws[order[j]] < limit
        first = last + 1


@jitable
def _limits(bins: Any, low: Any, step: Any, least: Any, most: Any) -> None:
    """The limits of each bin's first rank and of its last one; 0 for the last zero, since zeros are the same kept or not."""
    ends = np.zeros(least.size + 1, np.int32)
    for i in range(bins.size):
        ends[np.int64(bins[i]) + 1] += 1
    before = np.int32(0)
    for b in range(ends.size):
        before += ends[b]
        ends[b] = before
    for b in range(least.size):
        least[b] = _limit(low, step, ends[b])
        most[b] = _limit(low, step, ends[b + 1] - 1)
    most[0] = 0


@jitable
def _keep_ranked(magnitudes: Any, draws: Any, low: Any, step: Any, kept: Any) -> None:
    """``kept[i] = draws[i] < limit of the rank of entry i``, without sorting.

    Entries are counted in bins of ascending magnitude, so that a rank is known to lie between two, which decides nearly
    always.  The values of the other entries are compared with the whole row, each value once; a row of which too much is
    left is sorted.  The loops have no branch that is hard to predict.
    """
    n = magnitudes.size
    width = 8
    while width < 15 and (1 << width) < n // 2:
        width += 1
    bins = np.empty(n, np.uint32)
    _bins(magnitudes, width, bins)
    least, most = np.empty((1 << width) + 1, np.uint32), np.empty((1 << width) + 1, np.uint32)
    _limits(bins, low, step, least, most)
    doubts = np.zeros((n + 7) // 8, np.uint64)
    doubtful = doubts.view(np.uint8)
    for i in range(n):
        keep = draws[i] < least[bins[i]]
        kept[i] = keep
        doubtful[i] = np.uint8(draws[i] < most[bins[i]]) & np.uint8(not keep)
    limits, known, left = least, most, 64 + n // 32
    known[:] = np.uint32(0xFFFFFFFF)  # no magnitude
    for eight in range(doubts.size):
        if doubts[eight] == 0:
            continue
        for i in range(8 * eight, min(8 * eight + 8, n)):
            if doubtful[i] == 0:
                continue
            value = magnitudes[i]
            if known[bins[i]] != value:
                if left == 0:
                    _keep_sorted(magnitudes, draws, low, step, kept)
                    return
                left -= 1
                known[bins[i]], limits[bins[i]] = value, _limit(low, step, _rank(magnitudes, value))
            kept[i] = draws[i] < limits[bins[i]]


@jitable
def _draw(row: Any, index: Any, state: Any) -> Any:
    """Which entries of a row are kept."""
    key, low, high = state[0], state[1], state[2]
    n = row.size
    draws, magnitudes, kept = np.empty(n, np.uint32), np.empty(n, np.uint32), np.empty(n, np.bool_)
    place = np.uint32(index)
    for i in range(n):
        draws[i] = uniform_bits(key, place)
        place = np.uint32(place + np.uint32(1))
        magnitudes[i] = np.float32(row[i]).view(np.uint32) & np.uint32(0x7FFFFFFF)
    if n == 1:
        kept[0] = draws[0] < _limit((low + high) / 2, 0.0, 0)
    else:
        _keep_ranked(magnitudes, draws, low, (high - low) / (n - 1), kept)
    return kept


@jitable
def _apply_marks(row: Any, index: Any, factor: Any, marks: Any) -> None:
    """Multiply the entries that are marked, bit by bit, by `factor`, and the others by 0."""
    whole = 0 if index & 7 else row.size // 8
    words = np.empty(whole + 1, np.uint64)
    marked = words.view(np.uint8)
    for e in range(whole):
        words[e] = np.uint64(np.uint64(marks[(index >> 3) + e]) * _SPREADS) & _EACH
    for i in range(8 * whole):
        row[i] = row[i] * factor if marked[i] != 0 else float32(0)
    for i in range(8 * whole, row.size):
        row[i] *= factor * float32((marks[(index + i) >> 3] >> np.uint8((index + i) & 7)) & np.uint8(1))


@jitable
def _set_marks(kept: Any, index: Any, marks: Any) -> None:
    """Mark the entries that are kept; the marks were 0."""
    whole = 0 if index & 7 else kept.size // 8
    words = kept[: 8 * whole].view(np.uint64)
    for e in range(whole):
        marks[(index >> 3) + e] = np.uint8(np.uint64(words[e] * _PACKS) >> np.uint64(56))
    for i in range(8 * whole, kept.size):
        marks[(index + i) >> 3] |= np.uint8(kept[i]) << np.uint8((index + i) & 7)


def keep_by_rank(row: Any, index: int, state: State) -> None:
    """Keep every entry with a probability that grows with its rank among the magnitudes of its row.

    row: float32 deltas along the last dimension, changed in place (a tensor of one dimension is one row).  state: the key of the
    parent's tensor, the probabilities of the smallest and the largest entry times 2^32, the factor of the kept ones, a bit for
    each entry of the tensor or none, and whether these tell already what is kept; else they are set.  From density - epsilon
    for the smallest to density + epsilon for the largest the probability grows by equal steps; equal magnitudes share the mean
    of their ranks; a row of one entry has density.  Differs from the paper, which divides a kept entry by its own
    probability; here, as in mergekit, one factor keeps the tensor's L1 norm.  mergekit ranks tensors of more than two
    dimensions along the second one.
    """
    factor, marks, told = state[3], state[4], state[5]
    n = row.size
    if state[1] >= _UNIT or n == 0:
        return
    if told:
        _apply_marks(row, index, factor, marks)
        return
    kept = _draw(row, index, state)
    for i in range(n):
        row[i] = row[i] * factor if kept[i] else float32(0)
    if marks.size > 0:
        _set_marks(kept, index, marks)


def _refuse_outside(values: Mapping[str, Any]) -> None:
    for density, epsilon in zip(values["density"], values["epsilon"], strict=True):
        if density < 1 and not (density - epsilon > 0 and density + epsilon < 1):
            raise RecipeError(
                f"density {density:g} with epsilon {epsilon:g} gives probabilities from {density - epsilon:.4g} to {density + epsilon:.4g}",
                where="parameters.epsilon",
                hint=f"they must be inside (0, 1): epsilon below {min(density, 1 - density):.4g}, or another density",
            )


def _state(measure: Measure, values: Mapping[str, Any]) -> Sequence[State]:
    scaled = values["rescale"] == "l1" and min(values["density"]) < 1
    states: list[State] = []
    for key, density, epsilon in zip(measure.keys, values["density"], values["epsilon"], strict=True):
        low, high = (
            (2 * _UNIT, 2 * _UNIT) if density >= 1 else ((density - epsilon) * _UNIT, (density + epsilon) * _UNIT)
        )
        marks = np.zeros((measure.entries + 7) // 8 if scaled and measure.entries <= MARKED else 0, np.uint8)
        states.append((key, np.float64(low), np.float64(high), np.float32(1), marks, np.bool_(False)))
    if not scaled:
        return states
    factors = norm_factors(measure.kept(keep_by_rank, states, "row"))
    return [
        (key, low, high, factor, marks, np.bool_(marks.size > 0))
        for (key, low, high, _, marks, _), factor in zip(states, factors, strict=True)
    ]


DELLA = Stage(
    "della",
    DellaParameters,
    keep_by_rank,
    _state,
    passes=lambda values: int(values["rescale"] == "l1" and min(values["density"]) < 1),
    per="row",
    check=_refuse_outside,
    memory=lambda entries: entries // 8 + 1 if entries <= MARKED else 0,
    paper="Deep et al. 2024, DELLA-Merging, arXiv:2406.11617",
    revision=2,
)
