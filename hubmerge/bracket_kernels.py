"""The compiled passes that count magnitudes in and above brackets (`hubmerge.brackets`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy import float32

from hubmerge.compiled_passes import compiled_pass
from hubmerge.jit import called_inside, jitable
from hubmerge.ops.bits import load, replaced

__all__ = ["ROWS", "bracket_kernel", "upper_counts_kernel"]

ROWS = 8
"""Entries of a bracket's block that are looked at together."""


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
