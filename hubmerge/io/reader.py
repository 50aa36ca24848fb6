"""Reads the same range of entries of all inputs of a step, into buffers that are used again and again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hubmerge.errors import MergeError, NumbersError
from hubmerge.io.float8 import multiply_by_scales, scale_grid
from hubmerge.io.input_files import InputFiles
from hubmerge.io.stored import NUMPY, singles, to_singles
from hubmerge.io.windows import Seen, Windows
from hubmerge.io.workspace import CHUNK, Workspace
from hubmerge.plan_types import Operand, RowMap, Step
from zoo_index.tensors import DType, Scale, TensorMeta

if TYPE_CHECKING:
    from hubmerge.io.rows import RowReader

__all__ = ["Sources", "StepReader"]

Array = npt.NDArray[Any]


def _is_plain(operand: Operand) -> bool:
    """Whether all that is read of an input is bfloat16, as it is."""
    if operand.tensor.dtype is not DType.BF16 or operand.low_rank is not None:
        return False
    return operand.rows is None or (
        operand.rows.moves_only and all(_is_plain(fill.operand) for fill in operand.rows.fills)
    )


def _columns(operand: Operand) -> int:
    """Entries of a row of an input, its first dimension told apart from the others."""
    return operand.tensor.numel // max(1, operand.tensor.shape[0])


@dataclass(frozen=True)
class Sources:
    """The inputs of a range of entries, the base first, for a pass that reads them itself.

    descriptors, places: int64, every input's open file and the byte where its first entry is.  in_place: whether `inputs` are the
    entries themselves, or buffers for a block of them.
    """

    descriptors: Array
    places: Array
    in_place: bool
    inputs: tuple[Array, ...]


class StepReader:
    """Ranges of one step's inputs as bit patterns of one type: uint16 when all are plain bfloat16, else uint32 (float32)."""

    def __init__(self, step: Step, files: InputFiles, workspace: Workspace) -> None:
        self.step = step
        self.files = files
        self.workspace = workspace
        self.bits = "<u2" if all(map(_is_plain, step.inputs)) else "<u4"
        self._factors: dict[int, tuple[Array, Array]] = {}
        self._grids: dict[int, Array] = {}
        self._in_rows = {
            slot: self._row_reader(slot, operand, operand.rows)
            for slot, operand in enumerate(step.inputs)
            if operand.rows is not None
        }

    def read(self, start: int, stop: int) -> tuple[Array, ...]:
        """Entries `start` to `stop` of every input, the base first; valid until the next call on this workspace."""
        return tuple(self._chunk(slot, operand, start, stop) for slot, operand in enumerate(self.step.inputs))

    def raw(self, operand: Operand, start: int, stop: int, slot: int = 0) -> Array:
        """Entries `start` to `stop` of one input as stored."""
        meta = operand.tensor
        kind = np.dtype(NUMPY[meta.dtype])
        stored = self.workspace.take(f"raw{slot}", kind.str, stop - start, meta.start + start * kind.itemsize)
        view = stored.view(np.uint8).data
        self.files.read_into(view, operand.parent, meta, start * stored.itemsize, operand.in_adapter)
        return stored

    @property
    def of_files(self) -> bool:
        """Whether all inputs are files, and `read` gives the bytes that are in them."""
        return self._places is not None

    @contextmanager
    def sources(self, first: int, last: int, block: int) -> Iterator[Sources | None]:
        """What a pass that reads its inputs itself is given for entries `first` to `last`, if it takes `block` at a time.

        None where not all are `of_files`.
        """
        if self._places is None:
            yield None
            return
        descriptors, starts = self._places
        here = starts + first * np.dtype(self.bits).itemsize
        windows = self._windows
        parts = windows.bring(first, last) if windows is not None and last > first else ()
        if windows is not None and parts:
            yield Sources(descriptors, here, True, parts)
            windows.leave(first, last)
            return
        size = min(block, last - first)
        buffers = (self.workspace.take(f"raw{i}", self.bits, size, place) for i, place in enumerate(here.tolist()))
        yield Sources(descriptors, here, False, tuple(buffers))

    @contextmanager
    def kept_between_passes(self) -> Iterator[None]:
        """Inside, `sources` at the tensor's end stay in memory when they were gone through, as many as may: they are asked for again.

        Outside they do until they are asked for, or `let_go`.
        """
        if self._windows is None:
            yield
            return
        self._windows.keep_the_end()
        yield
        self._windows.keep_no_more()

    def let_go(self) -> None:
        """Hold on no longer to what stayed in memory."""
        if self._windows is not None:
            self._windows.leave_all()

    @cached_property
    def _windows(self) -> Windows | None:
        """The inputs in place; None where one of them is to be read."""
        if self._places is None:
            return None
        width, entries = np.dtype(self.bits).itemsize, self.step.output.numel
        inputs: list[Seen] = []
        for descriptor, start in zip(*(numbers.tolist() for numbers in self._places), strict=True):
            whole = self.files.mapped(descriptor)
            if whole is None or start + entries * width > whole.size or start % width:
                return None
            begin = whole.ctypes.data
            inputs.append(Seen(descriptor, start, begin + start, (begin, begin + whole.size)))
        return Windows(inputs, self.bits, entries, self.files.mapped, self.files.room)

    @cached_property
    def _places(self) -> tuple[Array, Array] | None:
        stored = DType.BF16 if self.bits == "<u2" else DType.F32
        inputs = self.step.inputs
        if self._in_rows or any(each.tensor.dtype is not stored or each.low_rank is not None for each in inputs):
            return None
        descriptors = [self.files.descriptor(each.parent, each.tensor.file, each.in_adapter) for each in inputs]
        return (
            None if None in descriptors else (np.array(descriptors), np.array([each.tensor.start for each in inputs]))
        )

    def _row_reader(self, slot: int, operand: Operand, rows: RowMap) -> RowReader:
        from hubmerge.io.rows import Buffers, Readers, RowReader

        columns = self.step.output.numel // max(1, rows.size)
        buffers = Buffers(self.bits, slot, self.workspace)
        readers = Readers(self._read_factors, self._read_grid, self._gains)
        return RowReader(operand, rows, columns, buffers, self.files, readers)

    def _chunk(self, slot: int, operand: Operand, start: int, stop: int) -> Array:
        if slot in self._in_rows:
            return self._in_rows[slot].read(start, stop).view(self.bits)
        dtype = operand.tensor.dtype
        if self.bits == "<u2":
            return self.raw(operand, start, stop, slot)
        if dtype is DType.F32 and operand.low_rank is None:
            return self.raw(operand, start, stop, slot).view("<u4")
        term = operand.low_rank
        gains = None if term is None or term.magnitude is None else self._gains(operand)
        single = self._sum(slot, operand, start, stop)
        if gains is not None and term is not None:
            from hubmerge.io.dora import multiply_by_gains

            multiply_by_gains(single, start, gains, _columns(operand), term.transposed)
        return single.view("<u4")

    def _sum(self, slot: int, operand: Operand, start: int, stop: int) -> Array:
        """Entries `start` to `stop` of an input in float32, with its scales and its low-rank term."""
        stored = self.raw(operand, start, stop, slot)
        single = self.workspace.take(f"single{slot}", "<f4", stop - start)
        to_singles(stored, operand.tensor.dtype, single)
        if operand.tensor.scale is not None:
            self._multiply_by_scales(operand, operand.tensor.scale, single, start)
        if operand.low_rank is not None:
            self._add_low_rank(operand, single, start)
        return single

    def _gains(self, operand: Operand) -> Array:
        """DoRA's factors of an input's rows or columns, found once for all that is read of it."""
        term = operand.low_rank
        if term is None or term.magnitude is None:
            raise MergeError("no magnitudes on this tensor", where=operand.tensor.name)
        magnitude, columns = term.magnitude, _columns(operand)

        def found() -> Array:
            from hubmerge.io.dora import gains_of

            lengths, rows = self._whole_single(operand.parent, magnitude), operand.tensor.numel // columns
            return gains_of(lengths, rows, columns, term.transposed, lambda a, b: self._sum(-1, operand, a, b), CHUNK)

        return self.files.kept((operand.parent, operand.tensor.name), found)

    def _multiply_by_scales(self, operand: Operand, scale: Scale, single: Array, start: int) -> None:
        if id(operand) not in self._grids:
            self._grids[id(operand)] = self._read_grid(operand, scale)
        multiply_by_scales(single, start, scale, self._grids[id(operand)])

    def _read_grid(self, operand: Operand, scale: Scale) -> Array:
        stored = np.empty(scale.tensor.numel, NUMPY[scale.tensor.dtype])
        self.files.read_into(stored.view(np.uint8).data, operand.parent, scale.tensor, 0, operand.in_adapter)
        numbers = np.empty(stored.size, np.float32)
        to_singles(stored, scale.tensor.dtype, numbers)
        return scale_grid(scale, numbers)

    def _add_low_rank(self, operand: Operand, single: Array, start: int) -> None:
        from hubmerge.kernels import add_low_rank

        term = operand.low_rank
        if id(operand) not in self._factors:
            self._factors[id(operand)] = self._read_factors(operand)
        left, right = self._factors[id(operand)]
        row = self.workspace.take("row", "<f4", right.shape[1])
        scale = np.float32(term.scale if term else 1.0)
        add_low_rank()(single, start, left, right, scale, row)

    def _read_factors(self, operand: Operand) -> tuple[Array, Array]:
        term = operand.low_rank
        if term is None:
            raise MergeError("no adapter on this tensor", where=operand.tensor.name)
        b = self._whole_single(operand.parent, term.b).reshape(-1, term.rank)
        if term.a is None:
            return b, np.ones((1, 1), np.float32)
        a = self._whole_single(operand.parent, term.a).reshape(term.rank, -1)
        left, right = (a.T, b.T) if term.transposed else (b, a)
        return np.ascontiguousarray(left), np.ascontiguousarray(right)

    def _whole_single(self, parent: int, meta: TensorMeta) -> Array:
        stored = np.empty(meta.numel, NUMPY[meta.dtype])
        self.files.read_into(stored.view(np.uint8).data, parent, meta, 0, in_adapter=True)
        single = singles(stored) if meta.dtype is DType.BF16 else stored.astype(np.float32)
        if not np.isfinite(single).all():
            raise NumbersError(
                f"adapter tensor {meta.name!r} holds a number that is not finite",
                where=str(self.files.path(parent, meta.file, True)),
                hint="the adapter is damaged",
            )
        return single
