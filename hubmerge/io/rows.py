"""Reads embeddings and heads in the order of another vocabulary: every row from where its token's row is stored.

Rows that follow one another on disk are read in one go, others one by one, a chunk's rows at a time: memory is bounded by
the chunk, whatever the vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hubmerge.io.float8 import multiply_by_scales
from hubmerge.io.input_files import InputFiles
from hubmerge.io.stored import NUMPY, to_singles
from hubmerge.io.workspace import CHUNK, Workspace
from hubmerge.plan_types import Operand, RowMap
from zoo_index.tensors import DType, Scale

__all__ = ["Buffers", "Readers", "RowReader", "own_entries", "runs"]

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Readers:
    """What is read of an operand beside its rows: its adapter's factors, left and right, its scales of float8, and DoRA's gains."""

    factors: Callable[[Operand], tuple[Array, Array]]
    grid: Callable[[Operand, Scale], Array]
    gains: Callable[[Operand], Array]


def runs(numbers: npt.NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Spans of `numbers` that count up by one, without those that are negative."""
    breaks = np.flatnonzero((np.diff(numbers) != 1) | (numbers[:-1] < 0)) + 1
    starts = np.concatenate(([0], breaks))
    stops = np.concatenate((breaks, [numbers.size]))
    kept = numbers[starts] >= 0
    yield from zip(starts[kept].tolist(), stops[kept].tolist(), strict=True)


@dataclass(frozen=True)
class Buffers:
    """Where one input's rows are put: buffers of its slot in `workspace`, of bfloat16 bits (``<u2``) or float32 (``<u4``)."""

    bits: str
    slot: int
    workspace: Workspace

    def take(self, name: str, count: int, columns: int, kind: str = "") -> Array:
        """`count` uninitialised rows."""
        own = "<u2" if self.bits == "<u2" else "<f4"
        return self.workspace.take(f"{name}{self.slot}", kind or own, count * columns).reshape(count, columns)


def own_entries(rows: RowMap, columns: int, entries: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Where entries of the output are stored in the operand's own tensor; -1 for those of rows that it lacks."""
    own = np.append(rows.own, -1)[np.minimum(entries // columns, rows.own.size)]
    return np.where(own < 0, -1, own * columns + entries % columns)


class RowReader:
    """One operand of a step, read through its `RowMap`.

    columns: entries in a row.
    """

    def __init__(
        self,
        operand: Operand,
        rows: RowMap,
        columns: int,
        buffers: Buffers,
        files: InputFiles,
        readers: Readers,
    ) -> None:
        self._operand, self._rows, self._columns = operand, rows, columns
        self._buffers, self._files, self._readers = buffers, files, readers
        self._held: dict[int, tuple[Array, Array]] = {}
        self._grids: dict[int, Array] = {}
        self._mean: Array | None = None

    def read(self, start: int, stop: int) -> Array:
        """Entries `start` to `stop` of the operand in the output's rows, as bfloat16 bits or float32."""
        columns = self._columns
        low, high = start // columns, -(-stop // columns)
        if high > self._rows.own.size and self._mean is None:
            self._mean = self._mean_row()
        block = self._block(low, high)
        return block.reshape(-1)[start - low * columns : stop - low * columns]

    def _block(self, low: int, high: int) -> Array:
        """Rows `low` to `high` of the output."""
        block = self._buffers.take("rows", high - low, self._columns)
        tokens = max(low, min(high, int(self._rows.own.size)))
        self._gather(self._operand, self._rows.own[low:tokens], block[: tokens - low])
        for fill in self._rows.fills:
            first, last = np.searchsorted(fill.at, (low, tokens))
            if first < last:
                part = self._buffers.take("fill", int(last - first), self._columns)
                self._gather(fill.operand, fill.rows[first:last], part)
                places = fill.at[first:last] - low
                if self._buffers.bits == "<u2":
                    block[places] = part
                else:
                    block[places] += part * fill.shares[first:last, None]
        if tokens < high:
            block[tokens - low :] = self._mean
        return block

    def _mean_row(self) -> Array:
        """The mean of all tokens' rows; summed in float64 in blocks of one size, so that it never depends on chunks."""
        total, tokens = np.zeros(self._columns), int(self._rows.own.size)
        step = max(1, CHUNK // self._columns)
        for low in range(0, tokens, step):
            total += self._block(low, min(low + step, tokens)).sum(axis=0, dtype=np.float64)
        return (total / tokens).astype(np.float32)

    def _gather(self, operand: Operand, numbers: npt.NDArray[np.int64], out: Array) -> None:
        """Fill `out` with the rows of a tensor that `numbers` names; zeros where a number is negative."""
        if not numbers.size:
            return
        dtype = operand.tensor.dtype
        direct = self._buffers.bits == "<u2" or dtype is DType.F32
        stored = out if direct else self._buffers.take("raw", len(out), self._columns, NUMPY[dtype])
        stored[numbers < 0] = 0
        width = self._columns * stored.itemsize
        for first, last in runs(numbers):
            buffer = stored[first:last].reshape(-1).view(np.uint8).data
            start = int(numbers[first]) * width
            self._files.read_into(buffer, operand.parent, operand.tensor, start, operand.in_adapter)
        if not direct:
            to_singles(stored, dtype, out)
        scale = operand.tensor.scale
        if scale is not None:
            if id(operand) not in self._grids:
                self._grids[id(operand)] = self._readers.grid(operand, scale)
            for first, last in runs(numbers):
                start = int(numbers[first]) * self._columns
                multiply_by_scales(out[first:last].reshape(-1), start, scale, self._grids[id(operand)])
        if operand.low_rank is not None:
            self._add_low_rank(operand, numbers, out)
            if operand.low_rank.magnitude is not None:
                gains = self._readers.gains(operand)
                out *= gains if operand.low_rank.transposed else gains[np.maximum(numbers, 0), None]

    def _add_low_rank(self, operand: Operand, numbers: npt.NDArray[np.int64], out: Array) -> None:
        from hubmerge.kernels import add_low_rank

        if id(operand) not in self._held:
            self._held[id(operand)] = self._readers.factors(operand)
        left, right = self._held[id(operand)]
        chosen = np.where(numbers[:, None] < 0, np.float32(0), left[np.maximum(numbers, 0)])
        scale = np.float32(operand.low_rank.scale if operand.low_rank else 1.0)
        row = self._buffers.workspace.take("row", "<f4", right.shape[1])
        add_low_rank()(out.reshape(-1), 0, np.ascontiguousarray(chosen), right, scale, row)
