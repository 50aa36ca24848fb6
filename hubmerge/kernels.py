"""The compiled passes over chunks: one generic kernel per kind of pass, specialised by numba on the number of parents.

Every kernel takes its parents as a tuple of equally typed one-dimensional chunks of bit patterns (`hubmerge.ops.bits`).
numba unrolls a loop over a tuple; the same loop over a two-dimensional array is more than ten times slower.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numpy import float32

from hubmerge.compiled_inputs import AT_ONCE, ask_for_all
from hubmerge.compiled_passes import compiled_pass
from hubmerge.jit import called_inside, compiled
from hubmerge.ops.bits import EXPONENT, exponent, load, replaced, store
from hubmerge.switches import Switches, settled

__all__ = [
    "NOT_FINITE",
    "add_low_rank",
    "columns_kernel",
    "merge_kernel",
    "range_pass",
    "rows_kernel",
]

NOT_FINITE = int(EXPONENT)


def _unstaged(delta: Any, index: Any, state: Any) -> Any:  # noqa: ARG001 - every stage is given these
    return delta


def range_pass(
    rule: Callable[..., Any], operand: str, stage: Callable[..., Any] | None, switches: Switches = ()
) -> Callable[..., Any]:
    """`merge_kernel` for entries `low` to `high` of the chunk, both uint64: numba counts signed indices from the end when
    they are negative, and a loop that may have to is not vectorised.
    """
    rule_ = settled(rule, switches)
    stage_ = called_inside(stage or _unstaged)
    based, minus_base = operand != "weight", operand == "delta"

    def run(
        base: Any, parents: Any, entry: Any, state: Any, arguments: Any, out: Any, offset: Any, low: Any, high: Any
    ) -> Any:
        worst = np.uint32(0)
        for start in range(low, high, np.uint64(AT_ONCE)):
            stop = min(np.uint64(start + np.uint64(AT_ONCE)), high)
            ask_for_all(base, parents, start + np.uint64(AT_ONCE), stop - start)
            place = np.uint32(np.int64(offset) + np.int64(start))
            for i in range(start, stop):
                origin = float32(0)
                if based:
                    origin = load(base[i])
                    worst = max(worst, exponent(origin))
                for k in range(len(parents)):
                    value = load(parents[k][i])
                    worst = max(worst, exponent(value))
                    if minus_base:
                        value = float32(stage_(float32(value - origin), place, state[k]))
                    entry = replaced(entry, k, value)
                merged = float32(rule_(entry, *arguments))
                if based:
                    merged = float32(origin + merged)
                worst = max(worst, exponent(merged))
                store(out, i, merged)
                place = np.uint32(
                    place + np.uint32(1)
                )  # a counter of its own: 64 bits would halve the vectors of random stages
        return worst

    return run


_range_kernel = compiled_pass(range_pass)


@cache
def merge_kernel(
    rule: Callable[..., Any], operand: str, stage: Callable[..., Any] | None, switches: Switches = ()
) -> Callable[..., Any]:
    """Compile `rule` into a pass over one chunk.

    The pass is ``run(base, parents, entry, state, arguments, out, offset) -> exponent bits``: base, parents and out are
    chunks of equal length, `entry` is one float32(0) per parent, `state` what the stage knows per parent, `arguments` the
    rule's further arguments, `offset` the index of the chunk's first entry in its tensor.  It returns the largest exponent
    bits met in inputs and output: `NOT_FINITE` means that a NaN or an infinity is in the chunk.

    operand: "weight" hands the rule the parents' entries, and the base is not read; "delta" their differences from the
    base's, through `stage`, and what it returns is added to the base; "staged" is the same for parents that hold deltas.
    switches: those of the rule's further arguments that the pass is only for (`hubmerge.switches`).
    """
    merge = _range_kernel(rule, operand, stage, switches)

    def run(base: Any, parents: Any, entry: Any, state: Any, arguments: Any, out: Any, offset: Any) -> Any:
        return merge(base, parents, entry, state, arguments, out, offset, np.uint64(0), np.uint64(out.size))

    return run  # plain Python around what is compiled: once more compiled, it would take a quarter longer to start


@cache
def rows_kernel(rule: Callable[..., Any], operand: str, stage: Callable[..., Any] | None) -> Callable[..., Any]:
    """`merge_kernel` for a rule whose first argument each row has its own values of.

    The pass is ``run(base, parents, entry, state, table, values, columns, arguments, out, offset)``: table is float32
    (rows, width), `values` one float32(0) for each of its columns, `columns` the length of a row.
    """
    merge = compiled(range_pass(rule, operand, stage))

    def run(
        base: Any, parents: Any, entry: Any, state: Any, table: Any, values: Any, columns: Any, arguments: Any, out: Any,
        offset: Any,
    ) -> Any:  # fmt: skip
        worst = np.uint32(0)
        low = 0
        while low < out.size:
            row, column = (offset + low) // columns, (offset + low) % columns
            high = min(low + columns - column, out.size)
            for j in range(len(values)):
                values = replaced(values, j, table[row, j])
            own = (values,) + arguments  # noqa: RUF005 - numba
            found = merge(base, parents, entry, state, own, out, offset, np.uint64(low), np.uint64(high))
            worst = max(worst, found)
            low = high
        return worst

    return compiled(run)


@cache
def columns_kernel(rule: Callable[..., Any], operand: str) -> Callable[..., Any]:
    """`merge_kernel` for a rule whose first argument each column has its own values of, without a stage.

    The pass is ``run(base, parents, entry, table, values, columns, arguments, out, offset)``: table is float32 (width,
    columns), `values` one float32(0) for each line of it, `columns` the number of entries after which the next row begins.
    """
    rule_ = called_inside(rule)
    minus_base = operand == "delta"

    def run_line(
        base: Any, parents: Any, entry: Any, table: Any, values: Any, column: Any, arguments: Any, out: Any, low: Any,
        high: Any,
    ) -> Any:  # fmt: skip
        worst = np.uint32(0)
        for i in range(low, high):
            origin = load(base[i]) if minus_base else float32(0)
            worst = max(worst, exponent(origin))
            for k in range(len(parents)):
                value = load(parents[k][i])
                worst = max(worst, exponent(value))
                entry = replaced(entry, k, float32(value - origin))
            for j in range(len(values)):
                values = replaced(values, j, table[j, column + (i - low)])
            merged = float32(origin + float32(rule_(entry, values, *arguments)))
            worst = max(worst, exponent(merged))
            store(out, i, merged)
        return worst

    line = compiled(run_line)

    def run(
        base: Any,
        parents: Any,
        entry: Any,
        table: Any,
        values: Any,
        columns: Any,
        arguments: Any,
        out: Any,
        offset: Any,
    ) -> Any:
        worst = np.uint32(0)
        low = 0
        while low < out.size:
            column = (offset + low) % columns
            high = min(low + columns - column, out.size)
            found = line(
                base, parents, entry, table, values, np.uint64(column), arguments, out, np.uint64(low), np.uint64(high)
            )
            worst = max(worst, found)
            low = high
        return worst

    return compiled(run)


@cache
def add_low_rank() -> Callable[..., Any]:
    """``run(out, start, left, right, scale, row)``: add entries of ``scale * left @ right`` to a chunk, in place.

    out: float32 entries `start`, `start` + 1, ... of a (rows, columns) tensor in row order; left: (rows, rank); right:
    (rank, columns); row: float32 scratch of `columns`.  Each entry is summed over the rank in order, so that the numbers
    do not depend on where a chunk begins (a BLAS product's do).
    """

    def run(out: Any, start: Any, left: Any, right: Any, scale: Any, row: Any) -> None:
        columns = right.shape[1]
        done = 0
        while done < out.size:
            r = (start + done) // columns
            first = (start + done) % columns
            count = min(columns - first, out.size - done)
            row[:count] = float32(0)
            for k in range(right.shape[0]):
                factor = left[r, k]
                for j in range(count):
                    row[j] += factor * right[k, first + j]
            for j in range(count):
                out[done + j] += scale * row[j]
            done += count

    return compiled(run)
