"""The pass that merges a range of one step's entries: its compiled kernel, what that takes, and how the inputs come to it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from hubmerge import file_kernels, kernels, row_kernels
from hubmerge.compiled_files import Target
from hubmerge.io.reader import StepReader
from hubmerge.marks import FLAGS
from hubmerge.measures import Array, PerGroup
from hubmerge.method import MergeMethod
from hubmerge.plan_types import Step
from hubmerge.ranges import row_length, row_units, spans
from hubmerge.staged import Staged
from hubmerge.switches import switches_of
from zoo_index.tensors import DType

__all__ = ["MergePass", "merge_pass", "pass_of_files"]

Merge = Callable[[Array, int], int]
"""``(out, low) -> exponent bits``: merges as many entries as `out` has, from entry `low` on (`hubmerge.kernels.merge_kernel`)."""
OfChunks = Callable[[Array, tuple[Array, ...], Array, int], int]
"""The same for inputs that were read: ``(base, parents, out, low)``."""

_BLOCK = 1 << 17
"""Entries that a pass from file to file takes at a time: they are written while they are in the nearer cache."""


@dataclass(frozen=True)
class MergePass:
    """run: reads and merges.  ranges: what it is to be called for, to have entries `start` to `stop` merged; where whole rows
    are needed they reach beyond the range that is asked for.

    write: where there is such a pass, ``(target, low, high) -> exponent bits, or NO_FILE``: reads, merges and writes entries
    `low` to `high`.
    """

    run: Merge
    ranges: Callable[[int, int], Iterator[tuple[int, int]]]
    write: Callable[[Target, int, int], int] | None = None


def merge_pass(reader: StepReader, method: MergeMethod, staged: Staged | None, arguments: tuple[Any, ...]) -> MergePass:
    """The pass of a step whose stage has its states, and whose rule its arguments."""
    step = reader.step
    if staged is not None and staged.stage.per == "row":
        return MergePass(
            _of_rows(reader, staged, _of_chunks(step, method, "staged", None, arguments)),
            lambda _start, _stop: row_units(step.output.shape),
        )
    operand = "delta" if step.base else "weight"
    merge = _of_chunks(step, method, operand, staged, arguments)

    def run(out: Array, low: int) -> int:
        chunks = reader.read(low, low + out.size)
        return merge(chunks[0], chunks[1:] if step.base else chunks, out, low)

    return MergePass(run, spans, pass_of_files(reader, method, operand, staged, arguments))


def _of_chunks(
    step: Step, method: MergeMethod, operand: str, staged: Staged | None, arguments: tuple[Any, ...]
) -> OfChunks:
    entry, rule, state = _staging(step, staged)
    if arguments and isinstance(arguments[0], PerGroup):
        group, *rest = arguments
        shape = step.output.shape
        columns = max(1, row_length(shape) if group.by == "row" else math.prod(shape[1:]))
        values = (np.float32(0),) * group.table.shape[1]
        if group.by == "column":  # of methods that take no stage
            table, by_column = np.ascontiguousarray(group.table.T), kernels.columns_kernel(method.rule, operand)
            return lambda base, parents, out, low: by_column(
                base, parents, entry, table, values, columns, tuple(rest), out, low
            )
        by_row = kernels.rows_kernel(method.rule, operand, rule)
        return lambda base, parents, out, low: by_row(
            base, parents, entry, state, group.table, values, columns, tuple(rest), out, low
        )
    run = kernels.merge_kernel(method.rule, operand, rule, switches_of(arguments))
    return lambda base, parents, out, low: run(base, parents, entry, state, arguments, out, low)


def _staging(step: Step, staged: Staged | None) -> tuple[tuple[Any, ...], Callable[..., Any] | None, tuple[Any, ...]]:
    """One float32(0) per parent, and the rule and the states of the stage that entries go through."""
    count = len(step.operands)
    rule, state = (None, ((),) * count) if staged is None else (staged.stage.rule, staged.states)
    return (np.float32(0),) * count, rule, state


def _of_rows(reader: StepReader, staged: Staged, merge: OfChunks) -> Merge:
    """A pass over whole rows, whose deltas go through the stage's rule first."""
    stage, columns = row_kernels.staged_deltas_kernel(staged.stage.rule), row_length(reader.step.output.shape)

    def run(out: Array, low: int) -> int:
        base, *parents = reader.read(low, low + out.size)
        deltas = tuple(reader.workspace.take(f"operand{k}", "<f4", out.size) for k in range(len(parents)))
        found = stage(base, tuple(parents), columns, staged.states, low, deltas)
        if found == kernels.NOT_FINITE:
            return kernels.NOT_FINITE
        return merge(base, tuple(delta.view(np.uint32) for delta in deltas), out, low)

    return run


def pass_of_files(
    reader: StepReader, method: MergeMethod, operand: str, staged: Staged | None, arguments: tuple[Any, ...]
) -> Callable[[Target, int, int], int] | None:
    """A pass from file to file, where the inputs' bytes are merged as they are, and the output's written as they come."""
    step = reader.step
    written = {DType.BF16: "<u2", DType.F32: "<u4"}.get(step.output.dtype)
    if written is None or not reader.of_files or (arguments and isinstance(arguments[0], PerGroup)):
        return None
    entry, rule, state = _staging(step, staged)
    marked = staged is not None and bool(staged.marks)
    if staged is not None and marked:
        factors = tuple(one[-1] for one in staged.states)
        rule, state = None, (staged.marks, factors, tuple(np.empty(FLAGS, np.uint8) for _ in factors))
    run = file_kernels.file_kernel(method.rule, operand, rule, switches_of(arguments), marked)
    if run is None:
        return None
    width = np.dtype(written).itemsize

    def write(target: Target, low: int, high: int) -> int:
        place, size = target.start + low * width, min(_BLOCK, high - low)
        with reader.sources(low, high, size) as sources:
            if sources is None:
                return file_kernels.NO_FILE
            inputs = sources.inputs
            parents, out = inputs[1:] if step.base else inputs, reader.workspace.take("out", written, size, place)
            found: int = run(
                sources.descriptors, sources.places, sources.in_place, target.descriptor, place, target.turn, inputs[0],
                parents, entry, state, arguments, out, low, high - low,
            )  # fmt: skip
            return found

    return write
