"""The compiled passes of measures: operands and scores as float32 chunks, histograms of magnitudes, sums by blocks.

A measure first writes what it is about (deltas, staged deltas, scores) as float32 into buffers that stay in the processor's
cache; the passes over these buffers know nothing of methods.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy import float32

from hubmerge.compiled_passes import compiled_pass
from hubmerge.jit import called_inside
from hubmerge.ops.bits import load, replaced
from hubmerge.ops.disentangle import without_shared
from hubmerge.ops.sums import in_order

__all__ = [
    "LANES",
    "high_counts_kernel",
    "low_counts_kernel",
    "operands_kernel",
    "scores_kernel",
    "staged_kernel",
    "sums_kernel",
    "without_shared_kernel",
]

LANES = 64
"""Interleaved sums of a block, added one after the other in the end: a fixed order that fills the vector registers."""


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


@compiled_pass
def without_shared_kernel() -> Callable[..., Any]:
    """``run(operands, entry, shared, taken)``: every entry of float32 `operands` becomes `without_shared` of the entries.

    entry: one float32(0) per parent.
    """

    def run(operands: Any, entry: Any, shared: Any, taken: Any) -> None:
        for i in range(operands[0].size):
            for k in range(len(operands)):
                entry = replaced(entry, k, operands[k][i])
            left = without_shared(entry, shared, taken)
            for k in range(len(operands)):
                operands[k][i] = left[k]

    return run


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
                totals[k] += in_order(lanes[k * LANES : (k + 1) * LANES])

    return run
