"""The stage that keeps entries of a delta at random, the larger ones more likely (DELLA's MagPrune)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numba.extending import register_jitable
from numpy import float32
from pydantic import Field

from hubmerge.errors import RecipeError
from hubmerge.method import Measure, Parameters, PerParent, Stage
from hubmerge.ops.random import uniform_bits
from hubmerge.ops.rescale import NormRescale, norm_factors

__all__ = ["DELLA", "DellaParameters", "keep_by_rank"]

State = tuple[np.uint64, np.float64, np.float64, np.float32]

_UNIT = 2.0**32


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


@register_jitable  # type: ignore[untyped-decorator]
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
        bins[i] = (np.int32(1) + min(np.int32(above), last)) * np.int32(magnitudes[i] != np.uint32(0))


@register_jitable  # type: ignore[untyped-decorator]
def _rank(magnitudes: Any, i: Any) -> Any:
    """How many entries of a row come before entry i: smaller ones, and equal ones that stand before it."""
    before = 0
    for j in range(i):
        before += magnitudes[j] <= magnitudes[i]
    for j in range(i + 1, magnitudes.size):
        before += magnitudes[j] < magnitudes[i]
    return before


@register_jitable  # type: ignore[untyped-decorator]
def _keep_sorted(magnitudes: Any, draws: Any, low: Any, step: Any, kept: Any) -> None:
    """`kept` of a whole row by sorting it."""
    order = np.empty(magnitudes.size, np.uint64)
    for i in range(magnitudes.size):
        order[i] = np.uint64(magnitudes[i]) << np.uint64(32) | np.uint64(i)
    order.sort()
    for rank in range(magnitudes.size):
        i = np.int64(order[rank] & np.uint64(0xFFFFFFFF))
        kept[i] = np.float64(draws[i]) < low + step * rank


@register_jitable  # type: ignore[untyped-decorator]
def _count(bins: Any, magnitudes: Any, starts: Any, single: Any) -> None:
    """Where each bin's entries start among all in ascending order, and which bins hold one value: 1, others 0."""
    values = np.zeros(single.size, np.uint32)
    for i in range(bins.size):
        b = bins[i]
        single[b] &= np.int32((starts[b + 1] == 0) | (values[b] == magnitudes[i]))
        values[b] = magnitudes[i]
        starts[b + 1] += 1
    for b in range(1, starts.size):
        starts[b] += starts[b - 1]


@register_jitable  # type: ignore[untyped-decorator]
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
    bins = np.empty(n, np.int32)
    _bins(magnitudes, width, bins)
    starts, single = np.zeros((1 << width) + 2, np.int32), np.ones((1 << width) + 1, np.int32)
    _count(bins, magnitudes, starts, single)
    following = starts.copy()
    doubtful, doubts = np.empty(n + 1, np.int32), 0
    for i in range(n):
        b = bins[i]
        draw = np.float64(draws[i])
        keep = draw < low + step * following[b]
        following[b] += single[b]
        kept[i] = keep
        doubtful[doubts] = i
        doubts += np.int32(draw < low + step * (starts[b + 1] - 1)) & np.int32(not keep) & (np.int32(1) - single[b])
    if doubts > 16 + n // 64:
        _keep_sorted(magnitudes, draws, low, step, kept)
        return
    for j in range(doubts):
        i = doubtful[j]
        kept[i] = np.float64(draws[i]) < low + step * _rank(magnitudes, i)


def keep_by_rank(row: Any, index: int, state: tuple[np.uint64, np.float64, np.float64, float32]) -> None:
    """Keep every entry with a probability that grows with its rank among the magnitudes of its row.

    row: float32 deltas along the last dimension, changed in place (a tensor of one dimension is one row).  state: the key of the
    parent's tensor, the probabilities of the smallest and the largest entry times 2^32, the factor of the kept ones.  From
    density - epsilon for the smallest to density + epsilon for the largest the probability grows by equal steps; of equal
    magnitudes the earlier one is the smaller; a row of one entry has density.  Differs from the paper, which divides a kept
    entry by its own probability; here, as in mergekit, one factor keeps the tensor's L1 norm.  mergekit ranks tensors of more
    than two dimensions along the second one.
    """
    key, low, high, factor = state
    n = row.size
    if low >= _UNIT or n == 0:
        return
    draws, magnitudes, kept = np.empty(n, np.uint32), np.empty(n, np.uint32), np.empty(n, np.bool_)
    for i in range(n):
        draws[i] = uniform_bits(key, index + i)
        magnitudes[i] = np.float32(row[i]).view(np.uint32) & np.uint32(0x7FFFFFFF)
    if n == 1:
        kept[0] = np.float64(draws[0]) < (low + high) / 2
    else:
        _keep_ranked(magnitudes, draws, low, (high - low) / (n - 1), kept)
    for i in range(n):
        row[i] = row[i] * factor if kept[i] else float32(0)


def _refuse_outside(values: Mapping[str, Any]) -> None:
    for density, epsilon in zip(values["density"], values["epsilon"], strict=True):
        if density < 1 and not (density - epsilon > 0 and density + epsilon < 1):
            raise RecipeError(
                f"density {density:g} with epsilon {epsilon:g} gives probabilities from {density - epsilon:.4g} to {density + epsilon:.4g}",
                where="parameters.epsilon",
                hint=f"they must be inside (0, 1): epsilon below {min(density, 1 - density):.4g}, or another density",
            )


def _state(measure: Measure, values: Mapping[str, Any]) -> Sequence[State]:
    states = []
    for key, density, epsilon in zip(measure.keys, values["density"], values["epsilon"], strict=True):
        low, high = (
            (2 * _UNIT, 2 * _UNIT) if density >= 1 else ((density - epsilon) * _UNIT, (density + epsilon) * _UNIT)
        )
        states.append((key, np.float64(low), np.float64(high), np.float32(1)))
    if values["rescale"] == "none" or min(values["density"]) >= 1:
        return states
    factors = norm_factors(measure.kept(keep_by_rank, states, "row"))
    return [(*state[:3], factor) for state, factor in zip(states, factors, strict=True)]


DELLA = Stage(
    "della",
    DellaParameters,
    keep_by_rank,
    _state,
    passes=lambda values: int(values["rescale"] == "l1" and min(values["density"]) < 1),
    per="row",
    check=_refuse_outside,
    paper="Deep et al. 2024, DELLA-Merging, arXiv:2406.11617",
)
