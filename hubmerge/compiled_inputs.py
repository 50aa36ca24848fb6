"""Inputs inside compiled passes: the entries in place or read into buffers, and fetched before they are needed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from hubmerge.compiled_files import fill
from hubmerge.jit import INSIDE, jitable, when_compiling
from hubmerge.ops.bits import replaced

__all__ = ["AT_ONCE", "ask_for", "ask_for_all", "at_hand"]

AT_ONCE = 512
"""Entries that are merged while the next ones are fetched."""
_LINE = 64
"""Bytes of a line of the processor's cache."""


def fetch_line(array: Any, first: Any, line: Any) -> None:
    """Have a line of the cache fetched, counted from the one that holds entry `first`; it may lie behind the array's end."""
    raise NotImplementedError("only inside compiled kernels")


@jitable
def ask_for(array: Any, first: Any, count: Any) -> None:
    """Have `count` entries from `first` on fetched into the cache; they may lie behind the array's end."""
    for line in range(np.uint64(np.uint64(count) * np.uint64(array.itemsize) // np.uint64(_LINE))):
        fetch_line(array, first, line)


@jitable
def ask_for_all(base: Any, parents: Any, first: Any, count: Any) -> None:
    """`ask_for` of every input; the base may be the first parent, where there is none."""
    ask_for(base, first, count)
    for k in range(len(parents)):
        ask_for(parents[k], first, count)


@jitable
def at_hand(
    in_place: Any, descriptors: Any, places: Any, base: Any, parents: Any, first: Any, count: Any, ahead: Any
) -> Any:
    """Entries `first` to `first + count` of every input: whether they could be had, the base's, the parents'.

    base, parents: where they are `in_place` all entries of the range, else buffers for `count`, which are read into, the base's if
    `ahead` is 1.
    """
    complete = True
    low, high = np.uint64(first), np.uint64(first + count)
    if in_place:
        base = base[low:high]
    elif ahead:
        complete &= fill(base[:count], descriptors[0], places[0] + first * base.itemsize)
    for k in range(len(parents)):
        if in_place:
            parents = replaced(parents, k, parents[k][low:high])
        else:
            place = places[k + ahead] + first * parents[k].itemsize
            complete &= fill(parents[k][:count], descriptors[k + ahead], place)
    return complete, base, parents


@when_compiling
def _tell_numba_of_lines() -> None:
    from llvmlite import ir
    from numba import types
    from numba.core import cgutils
    from numba.extending import intrinsic, overload

    @intrinsic  # type: ignore[untyped-decorator]
    def fetch(_typing: Any, _address: Any) -> Any:
        def build(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            pointer, word = ir.IntType(8).as_pointer(), ir.IntType(32)
            kind = ir.FunctionType(ir.VoidType(), [pointer, word, word, word])
            function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
            builder.call(function, [builder.inttoptr(arguments[0], pointer), word(0), word(3), word(1)])

        return types.void(types.int64), build

    @overload(fetch_line, jit_options=INSIDE)  # type: ignore[untyped-decorator]
    def _fetch_line(array: Any, first: Any, line: Any) -> Callable[[Any, Any, Any], None]:  # noqa: ARG001 - numba matches on names
        def fetch_entry(array: Any, first: Any, line: Any) -> None:
            begin = np.int64(array.ctypes.data) + np.int64(first) * np.int64(array.itemsize)
            fetch(begin + np.int64(line) * np.int64(_LINE))

        return fetch_entry
