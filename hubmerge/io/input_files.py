"""The parents' files: found, opened once each, read at any place from any thread."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy.typing as npt

from hubmerge.errors import MergeError
from hubmerge.fetching import open_planned
from hubmerge.io.maps import mapped
from hubmerge.io.windows import Room
from hubmerge.plan_types import Operand, PlannedParent
from zoo_index.tensors import TensorMeta

__all__ = ["InputFiles", "read_at"]

Array = npt.NDArray[Any]


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
    hint = "check the file and its permissions, and merge again"
    return MergeError(f"{path.name} cannot be read ({error.strerror})", where=str(path), hint=hint)


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
