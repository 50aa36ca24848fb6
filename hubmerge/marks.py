"""Marks of what a random stage keeps, a bit for each entry: the pass that measures leaves them to the pass that merges.

Random numbers take as much time as everything else that either pass does with an entry; with marks they are drawn once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy import float32

from hubmerge.compiled_inputs import AT_ONCE, ask_for_all
from hubmerge.jit import INSIDE, jitable, when_compiling
from hubmerge.ops.bits import exponent, load, replaced, store
from hubmerge.switches import Switches, settled

__all__ = ["FLAGS", "MARKED", "mark_words", "marked_range_pass", "set_marks"]

MARKED = 1 << 26
"""Entries of the largest tensor whose kept entries are marked: 8 MB for every parent."""
FLAGS = 1024
"""Entries that are told apart before their marks are set."""
_WORD = 64


def mark_words(entries: int) -> int:
    """Words of 64 marks for so many entries, up to a whole number of `FLAGS`."""
    return -(-entries // FLAGS) * (FLAGS // _WORD)


def word_of(flags: Any, first: Any) -> Any:
    """64 flags, uint8 from `first` on, as the bits of a uint64, the first the lowest: set where the flag is not 0."""
    raise NotImplementedError("only inside compiled kernels")


def set_flags(flags: Any, first: Any, word: Any) -> None:
    """The reverse of `word_of`: 1 where the bit is set, else 0."""
    raise NotImplementedError("only inside compiled kernels")


@jitable
def get_flags(flags: Any, marks: Any, place: Any, count: Any) -> None:
    """Set the flags of `count` entries from entry `place` on, in whole words: the first is flag ``place % 64``."""
    first, last = np.uint64(place) // np.uint64(_WORD), (np.uint64(place) + count - np.uint64(1)) // np.uint64(_WORD)
    for w in range(last - first + np.uint64(1)):
        set_flags(flags, w * np.uint64(_WORD), marks[first + w])


@jitable
def set_marks(marks: Any, place: Any, flags: Any) -> None:
    """Set the marks of `FLAGS` entries, of which the first is entry `place`, a multiple of 64."""
    for w in range(FLAGS // _WORD):
        marks[np.uint64(np.uint64(place) // np.uint64(_WORD) + np.uint64(w))] = word_of(flags, w * _WORD)


def marked_range_pass(rule: Callable[..., Any], switches: Switches) -> Callable[..., Any]:
    """The pass over a range of entries (`hubmerge.kernels`) for deltas of which some are dropped, and the others multiplied.

    ``run(base, parents, entry, state, arguments, out, offset, low, high) -> exponent bits``: state holds the parents' marks, the
    factors of what is kept, and uint8 scratch of `FLAGS` for each parent.
    """
    rule_ = settled(rule, switches)

    def run(
        base: Any, parents: Any, entry: Any, state: Any, arguments: Any, out: Any, offset: Any, low: Any, high: Any
    ) -> Any:
        marks, factors, flags = state
        worst = np.uint32(0)
        for start in range(low, high, np.uint64(AT_ONCE)):
            count = min(np.uint64(AT_ONCE), np.uint64(high - start))
            ask_for_all(base, parents, start + np.uint64(AT_ONCE), count)
            for k in range(len(parents)):
                get_flags(flags[k], marks[k], np.uint64(offset) + start, count)
            first = (np.uint64(offset) + start) % np.uint64(_WORD)
            for j in range(count):
                i = start + j
                origin = load(base[i])
                worst = max(worst, exponent(origin))
                for k in range(len(parents)):
                    value = load(parents[k][i])
                    worst = max(worst, exponent(value))
                    delta = float32(float32(value - origin) * factors[k])
                    entry = replaced(entry, k, delta if flags[k][first + j] != np.uint8(0) else float32(0))
                merged = float32(origin + float32(rule_(entry, *arguments)))
                worst = max(worst, exponent(merged))
                store(out, i, merged)
        return worst

    return run


@when_compiling
def _tell_numba() -> None:
    from llvmlite import ir
    from numba import types
    from numba.extending import intrinsic, overload

    @intrinsic  # type: ignore[untyped-decorator]
    def packed(_typing: Any, _address: Any) -> Any:
        def build(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            bytes_ = ir.VectorType(ir.IntType(8), _WORD)
            found = builder.load(builder.inttoptr(arguments[0], bytes_.as_pointer()), align=1)
            told = builder.icmp_unsigned("!=", found, ir.Constant(bytes_, [0] * _WORD))
            return builder.bitcast(told, ir.IntType(_WORD))

        return types.uint64(types.int64), build

    @overload(word_of, jit_options=INSIDE)  # type: ignore[untyped-decorator]
    def _word_of(flags: Any, first: Any) -> Callable[[Any, Any], Any]:  # noqa: ARG001 - numba matches on names
        def packed_flags(flags: Any, first: Any) -> Any:
            return packed(np.int64(flags.ctypes.data) + np.int64(first))

        return packed_flags

    @intrinsic  # type: ignore[untyped-decorator]
    def spread(_typing: Any, _address: Any, _word: Any) -> Any:
        def build(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            told = builder.bitcast(arguments[1], ir.VectorType(ir.IntType(1), _WORD))
            bytes_ = ir.VectorType(ir.IntType(8), _WORD)
            builder.store(builder.zext(told, bytes_), builder.inttoptr(arguments[0], bytes_.as_pointer()), align=1)

        return types.void(types.int64, types.uint64), build

    @overload(set_flags, jit_options=INSIDE)  # type: ignore[untyped-decorator]
    def _set_flags(flags: Any, first: Any, word: Any) -> Callable[[Any, Any, Any], None]:  # noqa: ARG001 - as above
        def spread_flags(flags: Any, first: Any, word: Any) -> None:
            spread(np.int64(flags.ctypes.data) + np.int64(first), np.uint64(word))

        return spread_flags
