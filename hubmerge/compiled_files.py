"""Files inside compiled passes: a pass that reads and writes for itself waits for no interpreter between its blocks.

Threads that take turns at the interpreter lose more over each turn than a small block takes to be merged.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hubmerge.jit import INSIDE, when_compiling

__all__ = ["FOREIGN", "TURN_BYTES", "Target", "fill", "put"]

FOREIGN = frozenset({"pread", "pwrite", "pthread_mutex_lock", "pthread_mutex_unlock"})
"""The C library's functions that are called."""
TURN_BYTES = 64
"""Zeros that a turn is made of: a mutex of the C library that nobody holds."""


@dataclass(frozen=True)
class Target:
    """An open file that a pass may write into, the byte where a tensor's first entry goes, and the file's turn (`put`)."""

    descriptor: int
    start: int
    turn: npt.NDArray[np.uint8]


def fill(array: Any, descriptor: Any, place: Any) -> Any:
    """Read a C-contiguous array from byte `place` of an open file; False when the file cannot give all of it."""
    raise NotImplementedError("only inside compiled kernels")


def put(array: Any, descriptor: Any, place: Any, turn: Any) -> Any:
    """Write a C-contiguous array to byte `place` of an open file; False when it cannot be written.

    turn: `TURN_BYTES` zeros, the same for all who write to this file.  The system lets one writer at a time into a file, and
    lets the others spin; with it they sleep.
    """
    raise NotImplementedError("only inside compiled kernels")


@when_compiling
def _tell_numba() -> None:
    from numba import types
    from numba.extending import overload

    moved = types.int64(types.int32, types.uintp, types.uint64, types.int64)
    pread, pwrite = (types.ExternalFunction(name, moved) for name in ("pread", "pwrite"))
    taken = types.int32(types.uintp)
    lock, unlock = (types.ExternalFunction(f"pthread_mutex_{name}", taken) for name in ("lock", "unlock"))

    @overload(fill, jit_options=INSIDE)  # type: ignore[untyped-decorator]
    def _fill(array: Any, descriptor: Any, place: Any) -> Callable[[Any, Any, Any], bool]:  # noqa: ARG001 - numba matches on names
        def fill_array(array: Any, descriptor: Any, place: Any) -> bool:
            pointer, done, size = np.uint64(array.ctypes.data), np.int64(0), np.int64(array.size * array.itemsize)
            while done < size:
                count = pread(np.int32(descriptor), pointer + np.uint64(done), np.uint64(size - done), place + done)
                if count <= 0:
                    return False
                done += count
            return True

        return fill_array

    @overload(put, jit_options=INSIDE)  # type: ignore[untyped-decorator]
    def _put(array: Any, descriptor: Any, place: Any, turn: Any) -> Callable[[Any, Any, Any, Any], bool]:  # noqa: ARG001 - as above
        def put_array(array: Any, descriptor: Any, place: Any, turn: Any) -> bool:
            pointer, done, size = np.uint64(array.ctypes.data), np.int64(0), np.int64(array.size * array.itemsize)
            mutex = np.uint64(turn.ctypes.data)
            lock(mutex)
            count = np.int64(1)
            while done < size and count > 0:
                count = pwrite(np.int32(descriptor), pointer + np.uint64(done), np.uint64(size - done), place + done)
                done += max(count, np.int64(0))
            unlock(mutex)
            complete: bool = done == size
            return complete

        return put_array
