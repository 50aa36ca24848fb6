"""Inputs seen where the system keeps them, inside compiled passes: nothing is copied before it is merged.

A file is mapped once, whole.  A pass has the part that it goes through brought into the map first, and lets it go behind
itself, so that the process holds a few megabytes of it at a time.  The system refuses to bring what the file does not have or
the disk does not give, where the touch of a mapped page would end the process; a file that loses its end in the
thousandth of a second between the two still does, and the same merge goes on where it was.

Copying takes 0.12 s of processor time per GB, bringing 0.025 s; asked for early enough, the numbers then arrive while others are merged.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from hubmerge.compiled_files import fill
from hubmerge.jit import jitable, when_compiling
from hubmerge.ops.bits import replaced

__all__ = ["AT_ONCE", "ask_for", "ask_for_all", "at_hand", "bring", "let_go"]

AT_ONCE = 512
"""Entries that are merged while the next ones are fetched."""
_LINE = 64
"""Bytes of a line of the processor's cache."""
_PAGE = 4096
_POPULATE_READ, _DONT_NEED = 22, 4
"""Advice of Linux 5.14 and of every Linux."""


def advise(address: Any, size: Any, advice: Any) -> Any:
    """Tell the system what will become of whole pages; False where it cannot be so."""
    raise NotImplementedError("only inside compiled kernels")


def seen(array: Any, address: Any, size: Any) -> Any:
    """An array of `size` elements at an address, of the same type as `array`; in a tuple, as numba returns no such array alone."""
    raise NotImplementedError("only inside compiled kernels")


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
def _advise_all(maps: Any, places: Any, size: Any, advice: Any) -> Any:
    """Advise on the `size` bytes of every input that begin at its place; False where some input is not mapped or it cannot be."""
    complete = True
    for k in range(maps.size):
        if maps[k] == 0:
            return False
        begin = (maps[k] + places[k]) & np.int64(-_PAGE)
        complete &= advise(begin, maps[k] + places[k] + size - begin, advice)
    return complete


@jitable
def bring(descriptors: Any, places: Any, maps: Any, size: Any, entry: Any) -> Any:
    """Have `size` bytes of every input from its place on in memory; False where that cannot be, and they are to be read.

    maps: int64, where each input's file begins in memory, or 0; places: int64, bytes from there.  entry: an array of one entry,
    overwritten: the last one is read, because behind the end of a file that became shorter the rest of a page is zeros.
    """
    complete: bool = _advise_all(maps, places, size, np.int64(_POPULATE_READ))
    for k in range(descriptors.size):
        complete = complete and fill(entry, descriptors[k], places[k] + size - entry.itemsize)
    return complete


@jitable
def let_go(maps: Any, places: Any, size: Any) -> None:
    """Hold on no longer to what `bring` brought."""
    _advise_all(maps, places, size, np.int64(_DONT_NEED))


@jitable
def at_hand(
    brought: Any, descriptors: Any, places: Any, maps: Any, base: Any, parents: Any, first: Any, count: Any, ahead: Any
) -> Any:
    """Entries `first` to `first + count` of every input: whether they could be had, the base's, the parents'.

    Where they were `brought`, they are those in the map; else they are read into `base` (if `ahead` is 1) and `parents`, buffers for so many.
    """
    complete = True
    if ahead:
        place = places[0] + first * base.itemsize
        if brought:
            (base,) = seen(base, maps[0] + place, count)
        else:
            complete &= fill(base[:count], descriptors[0], place)
    for k in range(len(parents)):
        part = parents[k]
        place = places[k + ahead] + first * part.itemsize
        if brought:
            (part,) = seen(part, maps[k + ahead] + place, count)
            parents = replaced(parents, k, part)
        else:
            complete &= fill(part[:count], descriptors[k + ahead], place)
    return complete, base, parents


@when_compiling
def _tell_numba_of_maps() -> None:
    from numba import types
    from numba.core import cgutils
    from numba.core.imputils import impl_ret_borrowed
    from numba.extending import intrinsic, overload

    madvise = types.ExternalFunction("madvise", types.int32(types.uintp, types.uintp, types.int32))

    @overload(advise)  # type: ignore[untyped-decorator]
    def _advise(address: Any, size: Any, advice: Any) -> Callable[[Any, Any, Any], bool]:  # noqa: ARG001 - numba matches on names
        def advise_pages(address: Any, size: Any, advice: Any) -> bool:
            complete: bool = madvise(np.uint64(address), np.uint64(size), np.int32(advice)) == 0
            return complete

        return advise_pages

    @intrinsic  # type: ignore[untyped-decorator]
    def seen_at(_typing: Any, array: Any, _address: Any, _size: Any) -> Any:
        def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            made = context.make_array(array)(context, builder)
            width = context.get_constant(types.intp, context.get_abi_sizeof(context.get_data_type(array.dtype)))
            context.populate_array(
                made,
                data=builder.inttoptr(arguments[1], made.data.type),
                shape=cgutils.pack_array(builder, [arguments[2]]),
                strides=cgutils.pack_array(builder, [width]),
                itemsize=width,
                meminfo=None,
            )
            return impl_ret_borrowed(context, builder, signature.return_type, made._getvalue())  # noqa: SLF001 - numba's own way

        return array(array, types.int64, types.int64), build

    @overload(seen)  # type: ignore[untyped-decorator]
    def _seen(array: Any, address: Any, size: Any) -> Callable[[Any, Any, Any], Any]:  # noqa: ARG001 - as above
        def array_at(array: Any, address: Any, size: Any) -> Any:
            return (seen_at(array, np.int64(address), np.int64(size)),)

        return array_at


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

    @overload(fetch_line)  # type: ignore[untyped-decorator]
    def _fetch_line(array: Any, first: Any, line: Any) -> Callable[[Any, Any, Any], None]:  # noqa: ARG001 - numba matches on names
        def fetch_entry(array: Any, first: Any, line: Any) -> None:
            begin = np.int64(array.ctypes.data) + np.int64(first) * np.int64(array.itemsize)
            fetch(begin + np.int64(line) * np.int64(_LINE))

        return fetch_entry
