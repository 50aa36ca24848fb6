"""What is known of whole tensors before their entries are merged: the answers to `hubmerge.measures.Measure`, streamed."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal, Self

import numpy as np

from hubmerge import brackets, gram_kernels, measure_kernels, row_kernels
from hubmerge.file_passes import read_inside
from hubmerge.io.input_files import InputFiles
from hubmerge.io.reader import StepReader
from hubmerge.io.workspace import Workspace
from hubmerge.kept_norms import kept_of_entries, kept_of_rows
from hubmerge.marks import FLAGS, MARKED
from hubmerge.measures import Array, PerGroup, Ranks
from hubmerge.plan_types import Step
from hubmerge.ranges import block_reads, row_length, row_units, spans
from hubmerge.staged import NOTHING_KNOWN, Known, Staged, put_through, random_key

__all__ = ["TensorMeasure"]

Block = tuple[int, Array, tuple[Array, ...]]
"""The index of the first entry, the base's bits (the first parent's without a base), every operand as float32."""


class TensorMeasure:
    """`Measure` of one step's tensor, or of all tensors of the steps of a pool (entries and `ranked` only).

    choice: which entries a stage's rule keeps (`Stage.choice`): `marks` says it for each parent when `kept` had it marked.
    """

    def __init__(
        self,
        reader: StepReader,
        *,
        staged: Staged | None = None,
        known: Known = NOTHING_KNOWN,
        pooled: Any = None,
        choice: Callable[..., Any] | None = None,
        steps: Sequence[Step] = (),
        jobs: int = 1,
        without: tuple[tuple[np.float32, ...], ...] = (),
    ) -> None:
        self._reader = reader
        self._staged = staged
        self._seed = known.seed
        self._choice = choice if reader.step.output.numel <= MARKED and gram_kernels.GRAM_BLOCK % FLAGS == 0 else None
        self.marks: tuple[Array, ...] = ()
        self._without = without
        self._steps = tuple(steps) or (reader.step,)
        self._jobs = jobs
        self.pooled = pooled
        self.entries = sum(step.output.numel for step in self._steps)
        self.parents = len(reader.step.operands)
        self.shape = (self.entries,) if len(self._steps) > 1 else reader.step.output.shape

    @classmethod
    def of_pool(cls, steps: Sequence[Step], files: InputFiles, jobs: int) -> TensorMeasure:
        """The measure of all tensors of `steps` together, which are read on `jobs` threads."""
        return cls(StepReader(steps[0], files, Workspace()), steps=steps, jobs=jobs)

    @property
    def keys(self) -> tuple[np.uint64, ...]:
        step = self._reader.step
        return tuple(random_key(self._seed, place, step.output.name) for place in range(len(step.operands)))

    def without(self, shared: Sequence[float], taken: Sequence[float]) -> Self:
        subtracted = (tuple(map(np.float32, shared)), tuple(map(np.float32, taken)))
        return type(self)(self._reader, steps=self._steps, jobs=self._jobs, without=subtracted)

    def gram(self) -> Array:
        if len(self._steps) > 1:
            return self._summed(lambda reader: [TensorMeasure(reader, without=self._without).gram()])[0]
        step, reader = self._reader.step, self._reader
        gram = np.zeros((self.parents, self.parents))
        if self._staged is not None or self._without:
            for _, base, operands in self._blocks(reader):
                bits = tuple(operand.view(np.uint32) for operand in operands)
                gram_kernels.gram_kernel("weight")(base, bits, gram)
            return gram
        if self._add_gram_of_files(gram):
            return gram
        gram[:] = 0
        run = gram_kernels.gram_kernel("delta" if step.base else "weight")
        for first, last in block_reads(self.entries):
            chunks = reader.read(first, last)
            run(chunks[0], chunks[1:] if step.base else chunks, gram)
        return gram

    def _add_gram_of_files(self, gram: Array) -> bool:
        """Fill `gram` by a pass that reads for itself; False where there is none, or where a file could not be read."""
        run = gram_kernels.gram_of_files_kernel("delta" if self._reader.step.base else "weight", self.parents)
        return run is not None and read_inside(
            self._reader, self.entries, lambda _, entries, block, *sources: run(*sources, entries, gram, block)
        )

    def gram_rows(self) -> Array:
        columns = row_length(self.shape)
        grams = np.zeros((self.entries // columns if columns else 0, self.parents, self.parents))
        lanes = np.empty(measure_kernels.LANES)
        for offset, _, operands in self._blocks(self._reader, whole_rows=True):
            part = grams[offset // columns : (offset + operands[0].size) // columns]
            row_kernels.row_grams_kernel(True)(operands, columns, lanes, part)
        return grams

    def gram_columns(self) -> Array:
        columns = math.prod(self.shape[1:])
        grams, lanes = np.zeros((columns, self.parents, self.parents)), np.empty(measure_kernels.LANES)
        flat = (self.shape[0] if self.shape else 1, columns)
        for _, _, operands in self._blocks(self._reader, whole_rows=True, shape=flat):
            row_kernels.row_grams_kernel(False)(operands, columns, lanes, grams)
        return grams

    def rows(self, rule: Callable[..., None], width: int) -> Array:
        columns = row_length(self.shape)
        lines = np.zeros((self.entries // columns if columns else 0, width))
        run, reader = row_kernels.row_lines_kernel(rule), self._reader
        weights = measure_kernels.operands_kernel(False)
        for low, high in row_units(self.shape):
            chunks = reader.read(low, high)
            singles = reader.workspace.take("lines", "<u4", len(chunks) * (high - low)).reshape(len(chunks), -1)
            weights(chunks[0], chunks, tuple(singles))
            run(
                singles.view(np.float32), 1 if reader.step.base else 0, columns, lines[low // columns : high // columns]
            )
        return lines

    def ranked(self, ranks: Ranks, score: Callable[..., Any] | None = None, *arguments: Any) -> tuple[Array, ...]:
        scores = self.parents if score is None else 1
        if not callable(ranks) and all(not 1 <= k <= self.entries for wanted in ranks for k in wanted):
            return tuple(np.array([brackets.outside(k) for k in wanted], np.float32) for wanted in ranks)
        if (answer := self._bracketed(ranks, score, arguments)) is not None:
            return answer

        def count_high(reader: StepReader) -> list[Array]:
            counts, zeros = np.zeros((scores, 1 << 16), np.int64), np.zeros(scores, np.int64)
            run = measure_kernels.high_counts_kernel()
            for values in self._scored(reader, score, arguments):
                for j, one in enumerate(values):
                    zeros[j] += run(one.view(np.uint32), counts[j])
            return [counts, zeros]

        counts, zeros = self._summed(count_high)
        wanted = ranks(tuple(int(self.entries - zero) for zero in zeros)) if callable(ranks) else ranks
        places = [
            [brackets.cell_of_rank(row, k) if 1 <= k <= self.entries else None for k in asked]
            for row, asked in zip(counts, wanted, strict=True)
        ]
        bins = [np.array(sorted({place[0] for place in row if place}), np.uint32) for row in places]

        def count_low(reader: StepReader) -> list[Array]:
            low = [np.zeros((len(high), 1 << 15), np.int64) for high in bins]
            run = measure_kernels.low_counts_kernel()
            for values in self._scored(reader, score, arguments):
                for one, high, found in zip(values, bins, low, strict=True):
                    if high.size:
                        run(one.view(np.uint32), high, found)
            return low

        lows = self._summed(count_low)
        return tuple(
            np.array(
                [
                    brackets.outside(k) if place is None else _number(place, high, low)
                    for k, place in zip(row, found, strict=True)
                ],
                np.float32,
            )
            for row, found, high, low in zip(wanted, places, bins, lows, strict=True)
        )

    def _bracketed(
        self, ranks: Ranks, score: Callable[..., Any] | None, arguments: tuple[Any, ...]
    ) -> tuple[Array, ...] | None:
        """`ranked` by one pass, where a sample shows where to look; else None."""
        if (
            self._staged is not None
            or self._without
            or len(self._steps) > 1
            or arguments
            or self.entries < brackets.FEWEST
        ):
            return None
        if callable(ranks) and score is None:
            return None
        return brackets.ranked_where_sampled(self._reader, ranks, spans(0, self.entries), score)

    def sums(self, rule: Callable[..., Any], *arguments: Any) -> tuple[float, ...]:
        reader, based = self._reader, self._reader.step.base is not None
        entry, rest = (np.float32(0),) * self.parents, tuple(map(np.float32, arguments))
        lanes, totals = np.empty(self.parents * measure_kernels.LANES), np.zeros(self.parents)
        run = measure_kernels.sums_kernel(rule, based, gram_kernels.GRAM_BLOCK)
        for first, last in block_reads(self.entries):
            chunks = reader.read(first, last)
            run(chunks[0], chunks[1:] if based else chunks, entry, rest, lanes, totals)
        return tuple(totals.tolist())

    def kept(
        self, rule: Callable[..., Any], states: Sequence[tuple[Any, ...]], per: Literal["entry", "row"] = "entry"
    ) -> tuple[tuple[float, float], ...]:
        if per == "entry":
            sums, self.marks = kept_of_entries(self._reader, rule, tuple(states), self._choice)
        else:
            sums = kept_of_rows(self._reader, rule, tuple(states))
        return tuple((float(before), float(after)) for before, after in sums)

    def _summed(self, count: Callable[[StepReader], list[Array]]) -> list[Array]:
        """The sums over all tensors of the arrays that `count` finds in each, added in the order of the steps."""
        if len(self._steps) == 1:
            return count(self._reader)
        files, stop = self._reader.files, threading.Event()
        totals: list[Array] = []
        with ThreadPoolExecutor(self._jobs) as pool:
            try:
                for parts in pool.map(lambda step: count(StepReader(step, files, Workspace(stop))), self._steps):
                    totals = [total + part for total, part in zip(totals, parts, strict=True)] if totals else parts
            except BaseException:
                stop.set()
                raise
        return totals

    def _blocks(
        self, reader: StepReader, *, whole_rows: bool = False, shape: Sequence[int] | None = None
    ) -> Iterator[Block]:
        """Every operand as float32, behind the stage, `gram_kernels.GRAM_BLOCK` entries at a time, or in units of whole rows."""
        step, workspace = reader.step, reader.workspace
        run = measure_kernels.operands_kernel(step.base is not None)
        columns = row_length(step.output.shape)
        by_row = whole_rows or (self._staged is not None and self._staged.stage.per == "row")
        for first, last in row_units(shape or step.output.shape) if by_row else block_reads(step.output.numel):
            chunks = reader.read(first, last)
            for low, high in ((0, last - first),) if by_row else spans(0, last - first, gram_kernels.GRAM_BLOCK):
                bits = tuple(workspace.take(f"operand{k}", "<u4", high - low) for k in range(self.parents))
                block = tuple(chunk[low:high] for chunk in chunks)
                run(block[0], block[1:] if step.base else block, bits)
                operands = tuple(one.view(np.float32) for one in bits)
                if self._without:
                    entry = (np.float32(0),) * self.parents
                    measure_kernels.without_shared_kernel()(operands, entry, *self._without)
                if self._staged is not None:
                    stage, states = self._staged.stage, self._staged.states
                    put_through(stage.rule, stage.per, operands, states, first + low, columns)
                yield first + low, block[0], operands

    def _scored(
        self, reader: StepReader, rule: Callable[..., Any] | None, arguments: tuple[Any, ...]
    ) -> Iterator[tuple[Array, ...]]:
        """A rule's float32 number for every entry, block by block; the operands themselves without a rule."""
        if rule is None:
            yield from (operands for _, _, operands in self._blocks(reader))
            return
        shape = reader.step.output.shape
        group = arguments[0] if arguments and isinstance(arguments[0], PerGroup) else None
        rest = tuple(np.float32(a) if isinstance(a, float) else a for a in (arguments[1:] if group else arguments))
        columns = max(1, row_length(shape) if group is None or group.by == "row" else math.prod(shape[1:]))
        run = measure_kernels.scores_kernel(rule, group.by if group else "none")
        table = group.table if group else np.zeros((1, 1), np.float32)
        values = (np.float32(0),) * table.shape[1]
        entry = (np.float32(0),) * self.parents
        for offset, _, operands in self._blocks(reader):
            out = reader.workspace.take("score", "<f4", operands[0].size)
            run(operands, entry, table, values, columns, offset, rest, out)
            yield (out,)


def _number(place: tuple[int, int], high: Array, low: Array) -> np.float32:
    """The number behind a place in the upper bits, from the counts of the lower ones."""
    upper, rest = place
    lower, _ = brackets.cell_of_rank(low[int(np.searchsorted(high, upper))], rest)
    return np.float32(np.uint32(upper << 15 | lower).view(np.float32))
