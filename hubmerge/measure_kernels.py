"""The compiled passes of measures: operands and scores as float32 chunks, histograms of magnitudes, sums by blocks.

A measure first writes what it is about (deltas, staged deltas, scores) as float32 into buffers that stay in the processor's
cache; the passes over these buffers know nothing of methods.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numpy import float32

from hubmerge.compiled_passes import compiled_pass
from hubmerge.jit import called_inside, compiled, jitable
from hubmerge.ops.bits import exponent, load, replaced

__all__ = [
    "LANES",
    "ROWS",
    "bracket_kernel",
    "high_counts_kernel",
    "kept_kernel",
    "kept_rows_kernel",
    "low_counts_kernel",
    "operands_kernel",
    "row_grams_kernel",
    "row_lines_kernel",
    "scores_kernel",
    "staged_deltas_kernel",
    "staged_kernel",
    "staged_rows_kernel",
    "sums_kernel",
    "upper_counts_kernel",
]

LANES = 64
"""Interleaved sums of a block, added one after the other in the end: a fixed order that fills the vector registers."""
ROWS = 8
"""Entries of a bracket's block that are looked at together."""


@compiled_pass
def operands_kernel(minus_base: bool) -> Callable[..., Any]:
    """``run(base, parents, outs)``: each parent's weights, or their differences from the base's, as float32 bits."""

    def run(base: Any, parents: Any, outs: Any) -> None:
        for k in range(len(parents)):
            chunk, out = parents[k], outs[k]
            for i in range(out.size):
                value = load(chunk[i])
                if minus_base:
                    value = float32(value - load(base[i]))
                out[i] = np.float32(value).view(np.uint32)

    return run


@compiled_pass
def staged_kernel(rule: Callable[..., Any]) -> Callable[..., Any]:
    """``run(values, state, offset)``: every number of float32 `values` becomes ``rule(value, offset + i, state)``."""
    rule_ = called_inside(rule)

    def run(values: Any, state: Any, offset: Any) -> None:
        place = np.uint32(offset)
        for i in range(values.size):
            values[i] = rule_(values[i], place, state)
            place = np.uint32(place + np.uint32(1))

    return run


@cache
def staged_rows_kernel(rule: Callable[..., Any]) -> Callable[..., Any]:
    """``run(values, columns, state, offset)``: ``rule(row, index, state)`` on every row of float32 `values`, in place."""
    rule_ = called_inside(rule)

    def run(values: Any, columns: Any, state: Any, offset: Any) -> None:
        for low in range(0, values.size, columns):
            rule_(values[low : low + columns], offset + low, state)

    return compiled(run)


@compiled_pass
def scores_kernel(rule: Callable[..., Any], by: str) -> Callable[..., Any]:
    """``run(operands, entry, table, values, columns, offset, arguments, out)``: a rule's number for every entry.

    operands: float32 arrays of the parents, as long as `out`, float32.  by: "row" or "column" hands the rule `values`, the
    entry's line of `table`, after the entries.
    """
    rule_ = called_inside(rule)

    def run(
        operands: Any, entry: Any, table: Any, values: Any, columns: Any, offset: Any, arguments: Any, out: Any
    ) -> None:
        row, column = offset // columns, offset % columns
        for i in range(out.size):
            for k in range(len(operands)):
                entry = replaced(entry, k, operands[k][i])
            if by == "none":
                out[i] = rule_(entry, *arguments)
            else:
                group = row if by == "row" else column
                for j in range(len(values)):
                    values = replaced(values, j, table[group, j])
                out[i] = rule_(entry, values, *arguments)
                column += 1
                if column == columns:
                    row, column = row + 1, 0

    return run


@compiled_pass
def high_counts_kernel() -> Callable[..., Any]:
    """``run(bits, counts) -> zeros``: count magnitudes by the upper 16 of their 31 bits; how many are zero.

    bits: float32 bits; counts: int64 of 65,536, added to.
    """

    def run(bits: Any, counts: Any) -> Any:
        zeros = 0
        for i in range(bits.size):
            magnitude = bits[i] & np.uint32(0x7FFFFFFF)
            counts[magnitude >> np.uint32(15)] += 1
            zeros += magnitude == np.uint32(0)
        return zeros

    return run


@compiled_pass
def low_counts_kernel() -> Callable[..., Any]:
    """``run(bits, high, counts)``: count the lower 15 bits of the magnitudes whose upper 16 are ``high[j]``, in ``counts[j]``.

    high: uint32 (n,), different ones; counts: int64 (n, 32768), added to.
    """

    def run(bits: Any, high: Any, counts: Any) -> None:
        for j in range(high.size):
            wanted = high[j]
            for i in range(bits.size):
                magnitude = bits[i] & np.uint32(0x7FFFFFFF)
                if magnitude >> np.uint32(15) == wanted:
                    counts[j, magnitude & np.uint32(0x7FFF)] += 1

    return run


@jitable
def _add_hits(places: Any, near: Any, width: Any, hits: Any, found: Any) -> Any:
    """Note the places of a block up to `width` in `hits` from `found` on; returns how many there are then.

    The block is seen as `ROWS` rows.  Only the columns that hold such a place are gone through one by one: where a few in a
    hundred entries are inside, these are a fifth of all.
    """
    columns, block = np.uint64(near.size), np.uint64(places.size)
    for c in range(columns):
        near[c] = places[c]
    for row in range(columns, block, columns):
        for c in range(columns):
            near[c] = min(near[c], places[row + c])
    touched = np.uint64(0)
    for c in range(columns):
        nearest = near[c]
        near[touched] = np.uint32(c)  # never ahead of what is read
        touched += np.uint64(nearest <= width)
    for t in range(touched):
        column = np.uint64(near[t])
        for r in range(np.uint64(ROWS)):
            place = places[column + r * columns]
            hits[found] = place
            found += np.uint64(place <= width)
    return found


@compiled_pass
def bracket_kernel(minus_base: bool, score: Callable[..., Any] | None) -> Callable[..., Any]:
    """``run(base, parents, entry, which, low, high, above, zeros, hits, found, places, near, first) -> stop``: count by brackets.

    base, parents: bits of one chunk; the operands are the parents, or their differences from the base.  score: a rule that
    makes one number of an entry's operands, of which the magnitudes are then; entry: one float32(0) per parent.  which: int64,
    the parent that the j-th bracket is of; low, high: uint32, its ends as bits; above, zeros: int64, how many magnitudes are
    larger and how many scores are 0, added to; hits: uint32 (brackets, capacity), where those inside are noted as
    differences from `low`; found: uint64, how many they are, added to.  Scratch, uint32: places, a block, which is a whole
    number of `ROWS`; near, a `ROWS`-th of it.  first: the entry to begin with.  It stops at the chunk's end, or where the
    hits of a bracket may not hold another block.

    Whether an entry is in the bracket is as good as random to the processor, so nothing is decided by a branch.
    """
    put = _put_magnitudes(minus_base) if score is None else _put_score_magnitudes(minus_base, score)

    def run(
        base: Any, parents: Any, entry: Any, which: Any, low: Any, high: Any, above: Any, zeros: Any, hits: Any,
        found: Any, places: Any, near: Any, first: Any,
    ) -> Any:  # fmt: skip
        block, size = np.uint64(places.size), np.uint64(base.size)
        room = np.uint64(np.uint64(hits.shape[1]) - block - np.uint64(1))
        full = False
        while first < size and not full:
            count = min(block, np.uint64(size - first))
            for j in range(which.size):
                larger, none = put(base, parents, entry, which[j], first, count, low[j], high[j], places)
                above[j] += larger
                zeros[j] += none
                for i in range(count, block):
                    places[i] = np.uint32(0xFFFFFFFF)
                found[j] = _add_hits(places, near, np.uint32(high[j] - low[j]), hits[j], found[j])
                full |= found[j] > room
            first = np.uint64(first + count)
        return first

    return run


def _put_magnitudes(minus_base: bool) -> Callable[..., Any]:
    """Write the places in a bracket of entries of one operand; returns how many magnitudes are above it, and 0."""

    def put(
        base: Any, parents: Any, _entry: Any, which: Any, first: Any, count: Any, low: Any, high: Any, places: Any
    ) -> Any:
        parent, larger = parents[which], np.uint32(0)
        for i in range(count):
            value = load(parent[first + i])
            if minus_base:
                value = float32(value - load(base[first + i]))
            magnitude = np.float32(value).view(np.uint32) & np.uint32(0x7FFFFFFF)
            larger = np.uint32(larger + np.uint32(magnitude > high))
            places[i] = np.uint32(magnitude - low)  # below the bracket: larger than every place in it
        return larger, np.uint32(0)

    return called_inside(put)


def _put_score_magnitudes(minus_base: bool, score: Callable[..., Any]) -> Callable[..., Any]:
    """The same for the scores of entries; and how many of them are 0."""
    score_ = called_inside(score)

    def put(
        base: Any, parents: Any, entry: Any, _which: Any, first: Any, count: Any, low: Any, high: Any, places: Any
    ) -> Any:
        larger, zeros = np.uint32(0), np.uint32(0)
        for i in range(count):
            origin = load(base[first + i]) if minus_base else float32(0)
            for k in range(len(parents)):
                entry = replaced(entry, k, float32(load(parents[k][first + i]) - origin))
            magnitude = np.float32(score_(entry)).view(np.uint32) & np.uint32(0x7FFFFFFF)
            larger = np.uint32(larger + np.uint32(magnitude > high))
            zeros = np.uint32(zeros + np.uint32(magnitude == np.uint32(0)))
            places[i] = np.uint32(magnitude - low)
        return larger, zeros

    return called_inside(put)


@compiled_pass
def upper_counts_kernel() -> Callable[..., Any]:
    """``run(values, shift, counts)``: count uint32 values without their lowest `shift` bits, in int32 `counts`."""

    def run(values: Any, shift: Any, counts: Any) -> None:
        for i in range(values.size):
            counts[np.uint64(values[i] >> shift)] += 1

    return run


@compiled_pass
def sums_kernel(rule: Callable[..., Any], minus_base: bool, size: int) -> Callable[..., Any]:
    """``run(base, parents, entry, arguments, lanes, totals)``: add up a rule's numbers of one chunk's entries, in a fixed order.

    rule: makes one float32 for every parent of an entry's operands, which are the parents, or their differences from the base.
    base, parents: bits; entry: one float32(0) per parent; lanes: float64 scratch (parents * `LANES`); totals: float64, one for
    each parent, added to.  size: entries whose sum is added to the total.
    """
    rule_ = called_inside(rule)

    def run(base: Any, parents: Any, entry: Any, arguments: Any, lanes: Any, totals: Any) -> None:
        stop = np.uint64(parents[0].size)
        for start in range(np.uint64(0), stop, np.uint64(size)):
            end = min(np.uint64(start + np.uint64(size)), stop)
            lanes[:] = 0.0
            for low in range(start, end, np.uint64(LANES)):
                for j in range(min(np.uint64(LANES), np.uint64(end - low))):
                    origin = load(base[low + j]) if minus_base else float32(0)
                    for k in range(len(parents)):
                        entry = replaced(entry, k, float32(load(parents[k][low + j]) - origin))
                    numbers = rule_(entry, *arguments)
                    for k in range(len(parents)):
                        lanes[np.uint64(k * LANES) + j] += np.float64(numbers[k])
            for k in range(len(parents)):
                total = 0.0
                for j in range(LANES):
                    total += lanes[k * LANES + j]
                totals[k] += total

    return run


@jitable
def _norm(values: Any, lanes: Any) -> Any:
    """The sum of the magnitudes of float32 numbers in float64, in a fixed order."""
    used = min(values.size, LANES)
    lanes[:used] = 0.0
    whole = values.size // LANES * LANES
    for low in range(0, whole, LANES):
        for j in range(LANES):
            lanes[j] += np.float64(abs(values[low + j]))
    for j in range(values.size - whole):
        lanes[j] += np.float64(abs(values[whole + j]))
    total = 0.0
    for j in range(used):
        total += lanes[j]
    return total


@cache
def kept_rows_kernel(rule: Callable[..., Any]) -> Callable[..., Any]:
    """``run(base, parents, columns, states, offset, row, lanes, sums)``: `kept_kernel` for a rule on whole rows of deltas.

    columns: entries of a row; row: float32 scratch of so many.  The order of the sums is that of the rows.
    """
    rule_ = called_inside(rule)

    def run(base: Any, parents: Any, columns: Any, states: Any, offset: Any, row: Any, lanes: Any, sums: Any) -> None:
        for low in range(0, base.size, columns):
            for k in range(len(parents)):
                _put_delta(base[low : low + columns], parents[k][low : low + columns], row)
                sums[k, 0] += _norm(row, lanes)
                rule_(row, offset + low, states[k])
                sums[k, 1] += _norm(row, lanes)

    return compiled(run)


@cache
def staged_deltas_kernel(rule: Callable[..., Any]) -> Callable[..., Any]:
    """``run(base, parents, columns, states, offset, outs) -> exponent bits``: deltas behind a rule on whole rows.

    outs: float32 arrays, one for each parent.  The largest exponent bits of the deltas before the rule, as `merge_kernel`'s.
    """
    rule_ = called_inside(rule)

    def run(base: Any, parents: Any, columns: Any, states: Any, offset: Any, outs: Any) -> Any:
        worst = np.uint32(0)
        for low in range(0, base.size, columns):
            for k in range(len(parents)):
                row = outs[k][low : low + columns]
                worst = max(worst, _put_delta(base[low : low + columns], parents[k][low : low + columns], row))
                rule_(row, offset + low, states[k])
        return worst

    return compiled(run)


@jitable
def _put_delta(base: Any, parent: Any, row: Any) -> Any:
    """Write float32 differences of bit patterns to `row`; returns their largest exponent bits."""
    worst = np.uint32(0)
    for i in range(row.size):
        value = float32(load(parent[i]) - load(base[i]))
        worst = max(worst, exponent(value))
        row[i] = value
    return worst


@compiled_pass
def kept_kernel(rule: Callable[..., Any], minus_base: bool, size: int) -> Callable[..., Any]:
    """``run(base, parents, states, offset, lanes, sums)``: L1 norms of one chunk's operands before and behind a stage's rule.

    base, parents: bits; the operands are the parents, or their differences from the base.  states: what the rule knows of each
    parent; offset: the index of the chunk's first entry.  lanes: float64 scratch (2, `LANES`); sums: float64 (parents, 2),
    added to.  size: entries whose sum is added to the total, as by `sums_kernel`.
    """
    rule_ = called_inside(rule)

    def run(base: Any, parents: Any, states: Any, offset: Any, lanes: Any, sums: Any) -> None:
        before, after = lanes[0], lanes[1]
        for k in range(len(parents)):
            chunk, state = parents[k], states[k]
            for start in range(np.uint64(0), np.uint64(chunk.size), np.uint64(size)):
                end = min(np.uint64(start + np.uint64(size)), np.uint64(chunk.size))
                before[:] = 0.0
                after[:] = 0.0
                for low in range(start, end, np.uint64(LANES)):
                    place = np.uint32(np.uint64(offset) + low)
                    for j in range(min(np.uint64(LANES), np.uint64(end - low))):
                        value = load(chunk[low + j])
                        if minus_base:
                            value = float32(value - load(base[low + j]))
                        before[j] += np.float64(abs(value))
                        after[j] += np.float64(abs(float32(rule_(value, place, state))))
                        place = np.uint32(place + np.uint32(1))
                total, rest = 0.0, 0.0
                for j in range(LANES):
                    total += before[j]
                    rest += after[j]
                sums[k, 0] += total
                sums[k, 1] += rest

    return run


@jitable
def _inner(a: Any, b: Any, lanes: Any) -> Any:
    """The inner product of two float32 rows in float64, in a fixed order."""
    lanes[:] = 0.0
    whole = a.size // LANES * LANES
    for low in range(0, whole, LANES):
        for j in range(LANES):
            lanes[j] += np.float64(a[low + j]) * np.float64(b[low + j])
    for j in range(a.size - whole):
        lanes[j] += np.float64(a[whole + j]) * np.float64(b[whole + j])
    total = 0.0
    for j in range(LANES):
        total += lanes[j]
    return total


@cache
def row_grams_kernel(by_row: bool) -> Callable[..., Any]:
    """``run(operands, columns, lanes, grams)``: inner products of whole rows, one after the other, into `grams`.

    operands: float32 arrays of whole rows.  by_row: grams is float64 (rows, parents, parents), one for each row, and set;
    otherwise (columns, parents, parents), one for each column, and added to row after row.
    """

    def run(operands: Any, columns: Any, lanes: Any, grams: Any) -> None:
        for low in range(0, operands[0].size, columns):
            for k in range(len(operands)):
                for m in range(k + 1):
                    left, right = operands[k][low : low + columns], operands[m][low : low + columns]
                    if by_row:
                        product = _inner(left, right, lanes)
                        grams[low // columns, k, m] = product
                        grams[low // columns, m, k] = product
                    else:
                        for j in range(columns):
                            grams[j, k, m] += np.float64(left[j]) * np.float64(right[j])
                            if m != k:
                                grams[j, m, k] = grams[j, k, m]

    return compiled(run)


@cache
def row_lines_kernel(rule: Callable[..., Any]) -> Callable[..., Any]:
    """``run(weights, first, columns, lines)``: ``rule(base's row, parents' rows, line)`` for every row.

    weights: float32 (inputs, entries) of whole rows, the base the first; first: index of the first parent; lines: float64
    (rows, width).
    """
    rule_ = called_inside(rule)

    def run(weights: Any, first: Any, columns: Any, lines: Any) -> None:
        for low in range(0, weights.shape[1], columns):
            rule_(weights[0, low : low + columns], weights[first:, low : low + columns], lines[low // columns])

    return compiled(run)
