"""The compiled passes over whole rows: stages that work on rows, and what measures ask of rows and columns."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numpy import float32

from hubmerge.jit import called_inside, compiled, jitable
from hubmerge.measure_kernels import LANES
from hubmerge.ops.bits import exponent, load
from hubmerge.ops.sums import in_order

__all__ = ["kept_rows_kernel", "row_grams_kernel", "row_lines_kernel", "staged_deltas_kernel", "staged_rows_kernel"]


@cache
def staged_rows_kernel(rule: Callable[..., Any]) -> Callable[..., Any]:
    """``run(values, columns, state, offset)``: ``rule(row, index, state)`` on every row of float32 `values`, in place."""
    rule_ = called_inside(rule)

    def run(values: Any, columns: Any, state: Any, offset: Any) -> None:
        for low in range(0, values.size, columns):
            rule_(values[low : low + columns], offset + low, state)

    return compiled(run)


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
    return in_order(lanes[:used])


@cache
def kept_rows_kernel(rule: Callable[..., Any]) -> Callable[..., Any]:
    """``run(base, parents, columns, states, offset, row, lanes, sums)``: `hubmerge.measure_kernels.kept_kernel` for a rule on whole rows of deltas.

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

    outs: float32 arrays, one for each parent.  The largest exponent bits of the deltas before the rule, as `hubmerge.kernels.merge_kernel`'s.
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
    return in_order(lanes)


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
