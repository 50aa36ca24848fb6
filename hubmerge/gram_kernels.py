"""The compiled passes that give inner products of a step's operands, in float64 and in a fixed order of additions."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numpy import float32

from hubmerge.compiled_inputs import ask_for_all, at_hand
from hubmerge.compiled_passes import called_by_address, compiled_pass
from hubmerge.jit import called_inside, jitable
from hubmerge.ops.bits import load, replaced
from hubmerge.ops.sums import in_order

__all__ = ["GRAM_BLOCK", "gram_kernel", "gram_of_files_kernel"]

GRAM_BLOCK = 1 << 16
"""Entries whose products are summed before the sum is added to the total: fixed, so that sums never depend on chunks."""
_LANES = 256
_AHEAD = 1024
"""Entries between those that are multiplied and those that are fetched."""
_FEW = 4
"""Operands whose products the compiler unrolls; of eight they would take half as long again as through memory."""


@jitable
def _add_products(operands: Any, lanes: Any, sums: Any) -> None:
    """Add the products of `lanes` entries of every two operands to the sums of that pair, lane by lane."""
    pair = 0
    for k in range(operands.shape[0]):
        for m in range(k + 1):
            left, right, total = operands[k], operands[m], sums[pair * _LANES : (pair + 1) * _LANES]
            for i in range(lanes):
                total[i] += left[i] * right[i]
            pair += 1


@jitable
def _add_lanes(sums: Any, gram: Any) -> None:
    """Add the sum of every pair's lanes to `gram`."""
    pair = 0
    for k in range(gram.shape[0]):
        for m in range(k + 1):
            product = in_order(sums[pair * _LANES : (pair + 1) * _LANES])
            gram[k, m] += product
            if m != k:
                gram[m, k] += product
            pair += 1


@jitable
def _operands(base: Any, parents: Any, i: Any, entry: Any, minus_base: Any) -> Any:
    """Entry `i` of every operand, a float32 as float64."""
    origin = load(base[i]) if minus_base else float32(0)
    for k in range(len(parents)):
        entry = replaced(entry, k, np.float64(float32(load(parents[k][i]) - origin)))
    return entry


@jitable
def _add_line(base: Any, parents: Any, low: Any, count: Any, entry: Any, minus_base: Any, sums: Any) -> None:
    """Add the products of `count` entries from `low` on, at most a line of lanes, to the sums of every pair."""
    for i in range(count):
        operands = _operands(base, parents, low + i, entry, minus_base)
        for k in range(len(parents)):
            for m in range(k + 1):
                sums[np.uint64((k * (k + 1) // 2 + m) * _LANES) + i] += operands[k] * operands[m]


def _products_of_few(operand: str) -> Callable[..., Any]:
    """`gram_kernel` for the first `size` entries and up to `_FEW` operands, whose products stay in registers: half the time.

    With its scratch: entry, one float64(0) per parent; sums, float64 (pairs * 256); and the size of a block.  Two lines of lanes
    are gone through at once, so that sums are loaded and stored half as often: three quarters of the time.
    """
    minus_base = operand == "delta"

    def run(base: Any, parents: Any, size: Any, entry: Any, sums: Any, gram: Any, block: Any) -> None:
        stop, lanes, both = np.uint64(size), np.uint64(_LANES), np.uint64(2 * _LANES)
        for start in range(np.uint64(0), stop, np.uint64(block)):
            sums[:] = 0.0
            end = min(np.uint64(start + np.uint64(block)), stop)
            paired = np.uint64(start + np.uint64(end - start) // both * both)
            for low in range(start, paired, both):
                ask_for_all(base, parents, low + np.uint64(_AHEAD), both)
                for i in range(lanes):
                    first = _operands(base, parents, low + i, entry, minus_base)
                    second = _operands(base, parents, low + lanes + i, entry, minus_base)
                    for k in range(len(parents)):
                        for m in range(k + 1):
                            lane = np.uint64((k * (k + 1) // 2 + m) * _LANES) + i
                            sums[lane] = (sums[lane] + first[k] * first[m]) + second[k] * second[m]
            for low in range(paired, end, lanes):
                _add_line(base, parents, low, min(lanes, np.uint64(end - low)), entry, minus_base, sums)
            _add_lanes(sums, gram)

    return run


def _fused(function: Callable[..., Any]) -> Callable[..., Any]:
    """`called_inside` that may multiply and add at once: the product of two float32 is exact in float64, so no bit depends on it."""
    return called_inside(function, fastmath={"contract"})


@compiled_pass
def _gram_of_few_pass(operand: str) -> Callable[..., Any]:
    add = _fused(_products_of_few(operand))

    def run(base: Any, parents: Any, size: Any, entry: Any, sums: Any, gram: Any, block: Any) -> None:
        add(base, parents, size, entry, sums, gram, block)

    return run


@compiled_pass
def _gram_of_files_pass(operand: str) -> Callable[..., Any]:
    add = _fused(_products_of_few(operand))
    ahead = 0 if operand == "weight" else 1

    def run(
        descriptors: Any, places: Any, in_place: Any, base: Any, parents: Any, size: Any, entry: Any, sums: Any,
        gram: Any, block: Any,
    ) -> Any:  # fmt: skip
        for low in range(np.int64(0), np.int64(size), np.int64(block)):
            count = min(np.int64(block), np.int64(size) - low)
            complete, ours, others = at_hand(in_place, descriptors, places, base, parents, low, count, ahead)
            if not complete:
                return np.int64(0)
            add(ours, others, count, entry, sums, gram, np.int64(block))
        return np.int64(1)

    return run


@compiled_pass
def _gram_pass(operand: str) -> Callable[..., Any]:
    """`gram_kernel` with its scratch, operands (parents, 256) and sums (pairs * 256), float64, and the size of a block."""
    minus_base = operand == "delta"

    def run(base: Any, parents: Any, operands: Any, sums: Any, gram: Any, block: Any) -> None:
        size = parents[0].size
        for start in range(0, size, block):
            sums[:] = 0.0
            for low in range(start, min(start + block, size), _LANES):
                lanes = min(_LANES, min(start + block, size) - low)
                for k in range(len(parents)):
                    row, chunk = operands[k], parents[k][low : low + lanes]
                    origin = base[low : low + lanes]
                    for i in range(lanes):
                        value = load(chunk[i])
                        if minus_base:
                            value = value - load(origin[i])
                        row[i] = np.float64(value)
                _add_products(operands, lanes, sums)
            _add_lanes(sums, gram)

    return run


@cache
def gram_kernel(operand: str) -> Callable[..., Any]:
    """``run(base, parents, gram)``: add the inner products of a chunk's operands to `gram` (float64, symmetric).

    The order of additions is fixed: 256 interleaved sums over each block of `GRAM_BLOCK`, added one after the other.  So many,
    because a sum that was just stored cannot be added to at once: with 16 the pass took three times as long.
    """

    def run(base: Any, parents: Any, gram: Any) -> None:
        count = len(parents)
        sums = np.empty(count * (count + 1) // 2 * _LANES)
        if count <= _FEW:
            _gram_of_few_pass(operand)(base, parents, parents[0].size, (0.0,) * count, sums, gram, GRAM_BLOCK)
        else:
            _gram_pass(operand)(base, parents, np.empty((count, _LANES)), sums, gram, GRAM_BLOCK)

    return run


@cache
def gram_of_files_kernel(operand: str, count: int) -> Callable[..., Any] | None:
    """`gram_kernel` that reads its inputs block by block; None where that is not to be had for so many operands.

    The pass is ``run(descriptors, places, in_place, base, parents, size, gram, block) -> 1, or 0 where something could not be
    read``: the first five are a `hubmerge.io.reader.Sources`; size: how many entries; block: how many are taken at a time.
    """
    if count > _FEW or not called_by_address():
        return None
    add = _gram_of_files_pass(operand)

    def run(
        descriptors: Any, places: Any, in_place: Any, base: Any, parents: Any, size: Any, gram: Any, block: Any
    ) -> Any:
        sums = np.empty(count * (count + 1) // 2 * _LANES)
        return add(descriptors, places, in_place, base, parents, size, (0.0,) * count, sums, gram, block)

    return run
