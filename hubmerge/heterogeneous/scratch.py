"""A file for what does not fit into memory: places that are written and read, and tensors that are mapped from it."""

from __future__ import annotations

import math
import mmap
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

from hubmerge.io.writer import reserve

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Scratch", "scratch_in"]


_ALIGNED = 64
"""Bytes that torch aligns to, and pages more than that."""


class Scratch:
    """A folder whose disk takes what is beyond `room` bytes; its files have no names and are gone with the process, however that ends.

    written: bytes that were ever written, or mapped.  A disk that is full is an OSError.
    """

    def __init__(self, folder: Path, room: int) -> None:
        self.room = room
        self.written = 0
        self._folder = folder
        self._file: IO[bytes] | None = None
        self._end = 0
        self._free: dict[int, list[int]] = {}

    @property
    def size(self) -> int:
        """Bytes of the file; what is mapped has files of its own."""
        return self._end

    def put(self, data: memoryview, place: int | None = None) -> int:
        """Write `data` at `place`, or at a place of its own; returns the place."""
        if self._file is None:
            self._file = self._opened()
        if place is None:
            place = self._place(len(data))
        self._file.seek(place)
        done = 0
        while done < len(data):
            done += self._file.write(data[done:])
        self.written += len(data)
        return place

    def get(self, place: int, into: memoryview) -> None:
        """Read as many bytes as `into` has of what was written at `place`."""
        assert self._file is not None
        self._file.seek(place)
        done = 0
        while done < len(into):
            read: int = self._file.readinto(into[done:])  # type: ignore[attr-defined]  # it is unbuffered
            if read == 0:
                raise RuntimeError("nothing was written there")
            done += read

    def give_up(self, place: int, size: int) -> None:
        """What is at `place` is not needed any more: the next of this size goes there."""
        self._free.setdefault(size, []).append(place)

    def zeros(self, shape: Sequence[int]) -> Tensor:
        """A tensor in float64 whose pages the system may write to the disk."""
        import torch

        return torch.frombuffer(self._pages(8 * math.prod(shape)), dtype=torch.float64).view(*shape)

    def copied(self, tensor: Tensor) -> Tensor:
        """A copy of the tensor whose pages the system may write to the disk, in the same order and as aligned, so that what is computed
        of it has the same bits; the tensor itself where some of its entries are one.
        """
        import torch

        sizes = zip(tensor.shape, tensor.stride(), strict=True)
        if not tensor.numel() or sum((size - 1) * step for size, step in sizes) + 1 != tensor.numel():
            return tensor
        ahead = tensor.data_ptr() % _ALIGNED
        pages = self._pages(ahead + tensor.numel() * tensor.element_size())
        flat = torch.frombuffer(pages, dtype=tensor.dtype, offset=ahead)
        return flat.as_strided(tensor.shape, tensor.stride()).copy_(tensor.detach())

    def kept(self, tensors: Sequence[Tensor], times: int) -> tuple[Tensor, ...]:
        """The tensors, float64; where so many times as much takes more than half of the room, copies of them as `zeros` makes them."""
        if times * sum(8 * each.numel() for each in tensors) <= self.room // 2:
            return tuple(tensors)
        return tuple(self.zeros(each.shape).copy_(each) for each in tensors)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _pages(self, size: int) -> mmap.mmap:
        with self._opened() as file:
            reserve(file.fileno(), size)  # else a full disk kills the process when a page is written
            pages = mmap.mmap(file.fileno(), size)
        self.written += size
        return pages

    def _place(self, size: int) -> int:
        free = self._free.get(size)
        if free:
            return free.pop()
        place, self._end = self._end, self._end + size
        return place

    def _opened(self) -> IO[bytes]:
        self._folder.mkdir(parents=True, exist_ok=True)
        return tempfile.TemporaryFile(dir=self._folder, buffering=0)


@contextmanager
def scratch_in(folder: Path, room: int) -> Iterator[Scratch]:
    """A `Scratch` for a while, in a folder that is made where it is needed.  room: bytes that may stay in memory."""
    scratch = Scratch(folder, room)
    try:
        yield scratch
    finally:
        scratch.close()
