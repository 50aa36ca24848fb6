"""Files seen where the system keeps them: nothing is copied before it is merged.

A file is mapped once, whole.  What a pass goes through is brought into the map first and let go behind it, so that the
process holds a few megabytes of it at a time.  The system refuses to bring what the file does not have or the disk does not
give, where the touch of a mapped page would end the process; a file that loses its end between the two still does, and the
same merge goes on where it was.

Copying takes 0.12 s of processor time per GB, bringing 0.025 s; asked for early enough, the numbers then arrive while others
are merged.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import sys
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["AROUND", "bring", "let_go", "mapped"]

_PAGE = 4096
AROUND = 1 << 21
"""Bytes on either side that may come with what is brought: Linux maps what it holds in one piece at once, 2 MB at most."""
_POPULATE_READ, _DONT_NEED = 22, 4
"""Advice of Linux 5.14, and of every Linux."""

Bytes = npt.NDArray[np.uint8]


class _Map:
    """The bytes of a map as numpy sees them: those of a buffer, that nobody writes to, since the types of passes tell the two apart."""

    def __init__(self, held: mmap.mmap) -> None:
        self.held = held
        begin = np.frombuffer(held, np.uint8).ctypes.data
        self.__array_interface__ = {"shape": (len(held),), "typestr": "|u1", "data": (begin, False), "version": 3}


def mapped(descriptor: int) -> Bytes | None:
    """A whole open file, whose bytes are there once `bring` brought them; None where the system cannot, or the file is empty."""
    if sys.platform != "linux" or not hasattr(os, "pread"):
        return None
    try:
        return np.asarray(_Map(mmap.mmap(descriptor, 0, prot=mmap.PROT_READ)))
    except (OSError, ValueError):
        return None


def bring(begin: int, size: int, descriptor: int, end: int) -> bool:
    """Have a part of a map in memory; False where that cannot be, and it is to be read.

    begin: its address.  end: the byte of the file behind it.  The last one is read, because behind the end of a file that became
    shorter the rest of a page is zeros.
    """
    return _advise(begin, size, _POPULATE_READ) and len(os.pread(descriptor, 1, end - 1)) == 1


def let_go(begin: int, size: int) -> None:
    """Hold on no longer to what `bring` brought; a page that is in use comes back when it is touched."""
    _advise(begin, size, _DONT_NEED)


def _advise(begin: int, size: int, advice: int) -> bool:
    page = begin // _PAGE * _PAGE
    done: bool = _madvise()(page, begin + size - page, advice) == 0
    return done


@cache
def _madvise() -> Any:
    """The system's call, during which other threads run."""
    found = ctypes.CDLL(None).madvise
    found.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    return found
