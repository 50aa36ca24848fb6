"""Reads the same range of entries of all inputs of a step, into buffers that are used again and again."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from hubmerge.errors import MergeError, NumbersError
from hubmerge.fetching import open_planned
from hubmerge.io.float8 import float8_table, multiply_by_scales, scale_grid
from hubmerge.io.maps import mapped
from hubmerge.io.windows import Room, Seen, Windows
from hubmerge.plan_types import Operand, PlannedParent, RowMap, Step
from zoo_index.tensors import DType, Scale, TensorMeta

if TYPE_CHECKING:
    from hubmerge.io.rows import RowReader

__all__ = [
    "CHUNK",
    "NUMPY",
    "InputFiles",
    "Sources",
    "StepReader",
    "StoppedError",
    "Workspace",
    "read_at",
    "singles",
    "to_singles",
]

CHUNK = 1 << 18
"""Entries read, computed and written at a time: the buffers of a few parents stay in the processor's cache."""

NUMPY = {
    DType.F64: "<f8", DType.F32: "<f4", DType.F16: "<f2", DType.BF16: "<u2", DType.I64: "<i8", DType.I32: "<i4",
    DType.I16: "<i2", DType.I8: "i1", DType.U64: "<u8", DType.U32: "<u4", DType.U16: "<u2", DType.U8: "u1", DType.BOOL: "u1",
    DType.C64: "<c8", DType.F8_E4M3: "u1", DType.F8_E5M2: "u1", DType.F8_E8M0: "u1",
}  # fmt: skip
"""How numpy sees a stored element; bfloat16 and float8 as their bits."""
_LINE = 64
"""Bytes of a line of the processor's cache.  Where a buffer begins at the same byte of a line as its place in the file, the
kernel copies 1 GB in 0.06 s of processor time when it reads and in 0.09 s when it writes; where the copy begins 8 bytes later
in a line than the original, in 0.33 and 0.36 s (Xeon with fast short `rep movsb`)."""
_WIDEST = 8
"""Bytes of the widest element: arrays begin at a multiple of it, whatever the file."""
_EIGHT_BITS = frozenset({DType.F8_E4M3, DType.F8_E5M2, DType.F8_E8M0})

Array = npt.NDArray[Any]


def singles(bits: Array) -> Array:
    """Bit patterns (uint16: bfloat16, uint32: float32) as float32."""
    if bits.dtype == np.uint16:
        return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return bits.view(np.float32)


def to_singles(stored: Array, dtype: DType, out: Array) -> None:
    """Write stored entries into `out`, float32 of the same shape; a float64 beyond float32 becomes infinite, and is reported so."""
    if dtype is DType.BF16:
        np.left_shift(stored, 16, out=out.view("<u4"), dtype=np.uint32, casting="unsafe")
    elif dtype in _EIGHT_BITS:
        np.take(float8_table(dtype), stored, out=out, mode="clip")  # any mode but "raise" writes without a buffer
    else:
        with np.errstate(over="ignore"):
            np.copyto(out, stored, casting="same_kind")


class InputFiles:
    """The parents' files, opened once each and read from any thread.

    instead: by a parent's place the folder that its files are read from, where that is not its own.
    """

    def __init__(self, parents: Sequence[PlannedParent], instead: Mapping[int, Path] | None = None) -> None:
        self._parents = parents
        self._instead = instead or {}
        self._descriptors: dict[Path, int] = {}
        self._maps: dict[int, Array | None] = {}
        self._paths: dict[tuple[int, bool, str], Path] = {}
        self._lock = threading.Lock()
        self._kept: dict[Hashable, Array] = {}
        self._making: dict[Hashable, threading.Lock] = {}
        self.room = Room()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._maps.clear()
        for descriptor in self._descriptors.values():
            os.close(descriptor)
        self._descriptors.clear()

    def name(self, operand: Operand) -> str:
        """How the parent of `operand` is called."""
        return str(self._parents[operand.parent].reference)

    def path(self, parent: int, file: str, in_adapter: bool = False) -> Path:
        """Where a parent's file is on disk."""
        key = (parent, in_adapter, file)
        if parent in self._instead:
            return self._instead[parent] / file
        if key not in self._paths:
            self._paths[key] = open_planned(self._parents[parent], in_adapter).path(file)
        return self._paths[key]

    def read_into(
        self, buffer: memoryview, parent: int, meta: TensorMeta, start: int, in_adapter: bool = False
    ) -> None:
        """Fill `buffer` from byte `start` of a tensor; `MergeError` when the file does not have these bytes any more."""
        path = self.path(parent, meta.file, in_adapter)
        try:
            descriptor = self._opened(path)
            done = 0
            while done < len(buffer):
                count = read_at(descriptor, buffer[done:], meta.start + start + done)
                if count == 0:
                    raise MergeError(
                        f"{path.name} ended inside tensor {meta.name!r}",
                        where=str(path),
                        hint="the file changed during the merge; merge again",
                    )
                done += count
        except OSError as error:
            raise _unreadable(path, error) from error

    def descriptor(self, parent: int, file: str, in_adapter: bool = False) -> int | None:
        """A parent's weight file, open for reading at any place, or None where there is none; `MergeError` when it cannot be."""
        path = self.path(parent, file, in_adapter)
        try:
            return self._opened(path)
        except OSError as error:
            raise _unreadable(path, error) from error

    def kept(self, key: Hashable, make: Callable[[], Array]) -> Array:
        """What `make` gives, made by whoever asks for it first and kept: small things that take a pass over a tensor."""
        with self._lock:
            lock = self._making.setdefault(key, threading.Lock())
        with lock:
            if key not in self._kept:
                self._kept[key] = make()
            return self._kept[key]

    def mapped(self, descriptor: int) -> Array | None:
        """The whole of a file that `descriptor` gave, to be seen in place (`hubmerge.io.maps`); None where it cannot be."""
        with self._lock:
            if descriptor not in self._maps:
                self._maps[descriptor] = mapped(descriptor)
            return self._maps[descriptor]

    def _opened(self, path: Path) -> int:
        with self._lock:
            if path not in self._descriptors:
                self._descriptors[path] = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
            return self._descriptors[path]


def _unreadable(path: Path, error: OSError) -> MergeError:
    return MergeError(f"{path.name} cannot be read ({error.strerror})", where=str(path))


_SEEK_LOCK = threading.Lock()


def read_at(descriptor: int, buffer: memoryview, offset: int) -> int:
    """Read up to ``len(buffer)`` bytes of a file from `offset`; returns how many.  Safe from any thread."""
    if hasattr(os, "preadv"):
        return os.preadv(descriptor, [buffer], offset)
    with _SEEK_LOCK:
        os.lseek(descriptor, offset, os.SEEK_SET)
        data = os.read(descriptor, len(buffer))
    buffer[: len(data)] = data
    return len(data)


class StoppedError(Exception):
    """The work was stopped from outside: the reason is not here."""


class Workspace:
    """Named buffers of one worker; a buffer grows when more is asked for and is never given back.

    stop: once it is set, no buffer is handed out any more: the work ends at its next chunk.
    """

    def __init__(self, stop: threading.Event | None = None) -> None:
        self._buffers: dict[str, Array] = {}
        self._stop = stop

    def take(self, name: str, dtype: str, size: int, place: int = 0) -> Array:
        """An uninitialised array of `size` elements; the next call with this name overwrites it.

        place: the byte of a file that the array's first byte comes from or goes to.
        """
        if self._stop is not None and self._stop.is_set():
            raise StoppedError
        needed = size * np.dtype(dtype).itemsize
        held = self._buffers.get(name)
        if held is None or held.nbytes < needed + _LINE:
            held = np.empty(needed + 2 * _LINE, np.uint8)
            held = self._buffers[name] = held[-held.ctypes.data % _LINE :]
        first = place % _LINE // _WIDEST * _WIDEST
        return held[first : first + needed].view(dtype)


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
            inputs.append(Seen(descriptor, start, whole.ctypes.data + start))
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
