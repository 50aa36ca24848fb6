"""The compiled passes that add up how large deltas are before and behind a stage, and mark what a random one keeps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy import float32

from hubmerge.compiled_inputs import ask_for, at_hand
from hubmerge.compiled_passes import compiled_pass
from hubmerge.jit import called_inside
from hubmerge.marks import FLAGS, set_marks
from hubmerge.measure_kernels import LANES
from hubmerge.ops.bits import load
from hubmerge.ops.sums import in_order

__all__ = ["kept_kernel", "kept_of_files_kernel"]

_AHEAD = 1024
"""Entries between those that are gone through and those that are fetched."""
_GROUP = FLAGS
"""Entries whose numbers are summed in float32, 16 in every lane, before the sums are added up in float64."""


def _any_is_kept(index: Any, state: Any) -> Any:  # noqa: ARG001 - what every choice is given
    return True


def _row_of_norms(rule: Callable[..., Any], minus_base: bool, choice: Callable[..., Any] | None) -> Callable[..., Any]:
    """The magnitudes of `count` entries from `first` on, added lane by lane; `choice` of the entries, in `flags` from `at` on."""
    rule_, choice_, marking = called_inside(rule), called_inside(choice or _any_is_kept), choice is not None

    def run(
        base: Any,
        chunk: Any,
        first: Any,
        count: Any,
        offset: Any,
        state: Any,
        early: Any,
        late: Any,
        flags: Any,
        at: Any,
    ) -> None:
        place = np.uint32(np.uint64(offset) + first)
        for j in range(count):
            value = load(chunk[first + j])
            if minus_base:
                value = float32(value - load(base[first + j]))
            early[j] += abs(value)
            late[j] += abs(float32(rule_(value, place, state)))
            if marking:
                flags[at + j] = choice_(place, state)
            place = np.uint32(place + np.uint32(1))

    return called_inside(run, forceinline=True)


def _kept_norms(
    rule: Callable[..., Any], minus_base: bool, choice: Callable[..., Any] | None = None
) -> Callable[..., Any]:
    """`kept_kernel` for the first `count` entries, with its scratch; a stage's `choice` is marked (`hubmerge.marks`)."""
    add_row, marking = _row_of_norms(rule, minus_base, choice), choice is not None

    def run(
        base: Any, parents: Any, states: Any, offset: Any, count: Any, singles: Any, lanes: Any, sums: Any, marks: Any,
        flags: Any,
    ) -> None:  # fmt: skip
        early, late, before, after = singles[0], singles[1], lanes[0], lanes[1]
        rows, group, stop = np.uint64(LANES), np.uint64(_GROUP), np.uint64(count)
        for k in range(len(parents)):
            chunk, state = parents[k], states[k]
            before[:] = 0.0
            after[:] = 0.0
            for start in range(np.uint64(0), stop, group):
                early[:] = float32(0)
                late[:] = float32(0)
                if start + group <= stop:  # of known lengths: whether arrays overlap is asked once, not for every row
                    for at in range(np.uint64(0), group, rows):
                        ask_for(base, start + at + np.uint64(_AHEAD), rows)
                        ask_for(chunk, start + at + np.uint64(_AHEAD), rows)
                        add_row(base, chunk, start + at, rows, offset, state, early, late, flags, at)
                else:
                    for low in range(start, stop, rows):
                        width = min(rows, np.uint64(stop - low))
                        add_row(base, chunk, low, width, offset, state, early, late, flags, low - start)
                for j in range(rows):
                    before[j] += np.float64(early[j])
                    after[j] += np.float64(late[j])
                if marking:
                    set_marks(marks[k], np.uint64(offset) + start, flags)
            sums[k, 0] += in_order(before)
            sums[k, 1] += in_order(after)

    return run


@compiled_pass
def kept_kernel(rule: Callable[..., Any], minus_base: bool) -> Callable[..., Any]:
    """``run(base, parents, states, offset, count, singles, lanes, sums)``: L1 norms of a block's operands before and behind a stage's rule.

    base, parents: bits; the operands are the parents, or their differences from the base.  states: what the rule knows of each
    parent; offset: the index of the block's first entry; count: how many it has.  singles: float32 scratch (2, `LANES`); lanes:
    float64 scratch of the same shape; sums: float64 (parents, 2), added to, once for each block.  A number is the sum of 16
    others in float32, and from there in float64: to about 1e-7, and in half the time.
    """
    norms = called_inside(_kept_norms(rule, minus_base))

    def run(base: Any, parents: Any, states: Any, offset: Any, count: Any, singles: Any, lanes: Any, sums: Any) -> None:
        norms(base, parents, states, offset, count, singles, lanes, sums, (), ())

    return run


@compiled_pass
def kept_of_files_kernel(
    rule: Callable[..., Any], minus_base: bool, choice: Callable[..., Any] | None
) -> Callable[..., Any]:
    """`kept_kernel` that reads its inputs, block by block, to a tensor's end.

    The pass is ``run(descriptors, places, in_place, base, parents, states, offset, entries, block, singles, lanes, sums, marks,
    flags) -> 1, or 0 where something could not be read``: the first five are a `hubmerge.io.reader.Sources`, from entry
    `offset` on; entries: how many there are; block: how many are taken at a time.  marks: where a stage's `choice` is marked,
    for every parent uint64 of `hubmerge.marks.mark_words`; flags: uint8 scratch of `hubmerge.marks.FLAGS`; both () without
    one, and with one a block is a whole multiple of `FLAGS`.
    """
    add = called_inside(_kept_norms(rule, minus_base, choice))
    ahead = 1 if minus_base else 0

    def run(
        descriptors: Any, places: Any, in_place: Any, base: Any, parents: Any, states: Any, offset: Any, entries: Any,
        block: Any, singles: Any, lanes: Any, sums: Any, marks: Any, flags: Any,
    ) -> Any:  # fmt: skip
        size = np.int64(entries)
        for low in range(np.int64(0), size, np.int64(block)):
            count = min(np.int64(block), size - low)
            complete, ours, others = at_hand(in_place, descriptors, places, base, parents, low, count, ahead)
            if not complete:
                return np.int64(0)
            add(ours, others, states, np.int64(offset) + low, count, singles, lanes, sums, marks, flags)
        return np.int64(1)

    return run
