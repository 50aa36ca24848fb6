"""The stage that keeps entries of a delta at random, the larger ones more likely (DELLA's MagPrune)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy import float32
from pydantic import Field

from hubmerge.errors import RecipeError
from hubmerge.jit import jitable
from hubmerge.method import Measure, Parameters, PerParent, Stage
from hubmerge.ops.random import uniform_bits
from hubmerge.ops.rescale import NormRescale, norm_factors

__all__ = ["DELLA", "DellaParameters", "keep_by_rank"]

State = tuple[np.uint64, np.float64, np.float64, np.float32, np.ndarray[Any, np.dtype[np.uint8]], np.bool_]

_UNIT = 2.0**32
_LOWER, _NUMBER = np.uint64(0xFFFFFFFF), np.uint64(0x7FFFFFFF)
MARKED = 1 << 27
"""Entries of the largest tensor whose kept entries are marked, a bit each, so that they need not be ranked twice."""


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
def _rank(magnitudes: Any, i: Any) -> Any:
    """How many entries of a row come before entry i: smaller ones, and equal ones that stand before it."""
    before = 0
    for j in range(i):
        before += magnitudes[j] <= magnitudes[i]
    for j in range(i + 1, magnitudes.size):
        before += magnitudes[j] < magnitudes[i]
    return before


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
    for rank in range(n):
        place = order[rank]
        kept[place] = np.float64(draws[place]) < low + step * rank


@jitable
def _count(bins: Any, magnitudes: Any, cells: Any) -> None:
    """Turn bins into ranks: each of `cells` becomes the rank of its bin's first entry, and in its upper half that of the last
    one where the bin holds different values, else 0.

    While it counts, a cell is the last value of its bin, a bit that tells of different ones, and the number of its entries.
    """
    for i in range(bins.size):
        cell = cells[bins[i]]
        value = np.uint64(magnitudes[i]) << np.uint64(32)
        other = np.uint64((cell & _NUMBER) != np.uint64(0)) & np.uint64((cell & ~_LOWER) != value)
        cells[bins[i]] = value | (cell & _LOWER) + np.uint64(1) | other << np.uint64(31)
    before = np.uint64(0)
    for b in range(cells.size):
        cell = cells[b]
        mixed = cell >> np.uint64(31) & np.uint64(1)
        last = before + (cell & _NUMBER) - np.uint64(1)
        cells[b] = before | (last * mixed) << np.uint64(32)
        before += cell & _NUMBER


@jitable
def _keep_ranked(magnitudes: Any, draws: Any, low: Any, step: Any, kept: Any) -> None:
    """``kept[i] = draws[i] < low + step * rank of entry i``, without sorting.

    Entries are counted in bins of ascending magnitude.  In a bin of one value the rank is the number of entries counted
    before; of another entry it is known to lie within its bin, which decides nearly always.  The rest is compared with
    the whole row, and a row of which too much is left is sorted.  The loops have no branch that is hard to predict.
    """
    n = magnitudes.size
    width = 8
    while width < 15 and (1 << width) < n // 2:
        width += 1
    bins = np.empty(n, np.uint32)
    _bins(magnitudes, width, bins)
    cells = np.zeros((1 << width) + 1, np.uint64)
    _count(bins, magnitudes, cells)
    doubtful, doubts = np.empty(n + 1, np.int32), np.int64(0)
    for i in range(n):
        cell, draw = cells[bins[i]], np.float64(draws[i])
        last = np.int64(cell >> np.uint64(32))
        keep = draw < low + step * np.int64(cell & _LOWER)
        kept[i] = keep
        cells[bins[i]] = cell + np.uint64(last == 0)
        doubtful[doubts] = i
        doubtful[doubts] = i
        doubts += np.int64(draw < low + step * last) & np.int64(not keep)
    if doubts > 16 + n // 64:
        _keep_sorted(magnitudes, draws, low, step, kept)
        return
    for j in range(doubts):
        i = doubtful[j]
        kept[i] = np.float64(draws[i]) < low + step * _rank(magnitudes, i)


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
        kept[0] = np.float64(draws[0]) < (low + high) / 2
    else:
        _keep_ranked(magnitudes, draws, low, (high - low) / (n - 1), kept)
    return kept


def keep_by_rank(row: Any, index: int, state: State) -> None:
    """Keep every entry with a probability that grows with its rank among the magnitudes of its row.

    row: float32 deltas along the last dimension, changed in place (a tensor of one dimension is one row).  state: the key of the
    parent's tensor, the probabilities of the smallest and the largest entry times 2^32, the factor of the kept ones, a bit for
    each entry of the tensor or none, and whether these tell already what is kept; else they are set.  From density - epsilon
    for the smallest to density + epsilon for the largest the probability grows by equal steps; of equal magnitudes the earlier
    one is the smaller; a row of one entry has density.  Differs from the paper, which divides a kept entry by its own
    probability; here, as in mergekit, one factor keeps the tensor's L1 norm.  mergekit ranks tensors of more than two
    dimensions along the second one.
    """
    factor, marks, told = state[3], state[4], state[5]
    n = row.size
    if state[1] >= _UNIT or n == 0:
        return
    if told:
        for i in range(n):
            place = index + i
            row[i] *= factor * np.float32((marks[place >> 3] >> np.uint8(place & 7)) & np.uint8(1))
        return
    kept = _draw(row, index, state)
    for i in range(n):
        row[i] = row[i] * factor if kept[i] else float32(0)
    if marks.size > 0:
        for i in range(n):
            place = index + i
            marks[place >> 3] |= np.uint8(kept[i]) << np.uint8(place & 7)


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
)
