"""What a stage's rule keeps of every parent's deltas: the sums of their magnitudes before it and behind it, streamed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from hubmerge import gram_kernels, kept_kernels, measure_kernels, row_kernels
from hubmerge.compiled_passes import called_by_address
from hubmerge.file_passes import read_inside
from hubmerge.io.reader import StepReader
from hubmerge.marks import FLAGS, mark_words
from hubmerge.measures import Array
from hubmerge.ranges import block_reads, row_length, row_units, spans

__all__ = ["kept_of_entries", "kept_of_rows"]

States = tuple[tuple[Any, ...], ...]
"""What the rule knows of each parent."""


def kept_of_entries(
    reader: StepReader, rule: Callable[..., Any], states: States, choice: Callable[..., Any] | None
) -> tuple[Array, tuple[Array, ...]]:
    """The sums before and behind a rule on single entries, float64 (parents, 2), and the marks of what `choice` keeps.

    choice: which entries the rule keeps (`Stage.choice`), or None.  No marks without it, or where no pass reads for itself.
    """
    sums = np.zeros((len(states), 2))
    lanes = np.empty((2, measure_kernels.LANES), np.float32), np.empty((2, measure_kernels.LANES))
    marks = _by_reading_inside(reader, rule, states, choice, lanes, sums)
    if marks is not None:
        return sums, marks
    sums[:] = 0
    based, block = reader.step.base is not None, gram_kernels.GRAM_BLOCK
    run = kept_kernels.kept_kernel(rule, based)
    for first, last in block_reads(reader.step.output.numel):
        chunks = reader.read(first, last)
        for low, high in spans(0, last - first, block):
            base, *parents = (chunk[low:high] for chunk in chunks)
            run(base, tuple(parents if based else (base, *parents)), states, first + low, high - low, *lanes, sums)
    return sums, ()


def _by_reading_inside(
    reader: StepReader,
    rule: Callable[..., Any],
    states: States,
    choice: Callable[..., Any] | None,
    lanes: tuple[Array, Array],
    sums: Array,
) -> tuple[Array, ...] | None:
    """Fill `sums` by a pass that reads for itself; its marks, or None where there is none, or a file could not be read."""
    if not called_by_address():
        return None
    run = kept_kernels.kept_of_files_kernel(rule, reader.step.base is not None, choice)
    entries = reader.step.output.numel
    marks: tuple[Array, ...] = ()
    flags: Any = ()
    if choice is not None:
        marks = tuple(reader.workspace.take(f"marks{k}", "<u8", mark_words(entries)) for k in range(len(states)))
        flags = np.zeros(FLAGS, np.uint8)
    complete = read_inside(
        reader,
        entries,
        lambda first, count, block, *sources: run(*sources, states, first, count, block, *lanes, sums, marks, flags),
    )
    return marks if complete else None


def kept_of_rows(reader: StepReader, rule: Callable[..., Any], states: States) -> Array:
    """The sums before and behind a rule on whole rows, float64 (parents, 2)."""
    shape, sums = reader.step.output.shape, np.zeros((len(states), 2))
    columns, lanes = row_length(shape), np.empty(measure_kernels.LANES)
    row, run = np.empty(columns, np.float32), row_kernels.kept_rows_kernel(rule)
    for first, last in row_units(shape):
        base, *parents = reader.read(first, last)
        run(base, tuple(parents), columns, states, first, row, lanes, sums)
    return sums
