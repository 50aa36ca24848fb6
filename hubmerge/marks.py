"""Marks of what a random stage keeps, a bit for each entry: the pass that measures leaves them to the pass that merges.

Random numbers take as much time as everything else that either pass does with an entry; with marks they are drawn once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy import float32

from hubmerge.jit import called_inside, jitable, when_compiling
from hubmerge.ops.bits import exponent, load, replaced, store

__all__ = ["FLAGS", "MARKED", "mark_words", "marked_range_pass", "set_marks"]

MARKED = 1 << 26
"""Entries of the largest tensor whose kept entries are marked: 8 MB for every parent."""
FLAGS = 1024
"""Entries that are told apart before their marks are set."""
_WORD, _HALF = 64, 32
"""Entries of a word of marks as it is set, and as it is read: a shift of 64 bits would halve the vectors."""


def mark_words(entries: int) -> int:
    """Words of 64 marks for so many entries, up to a whole number of `FLAGS`."""
    return -(-entries // FLAGS) * (FLAGS // _WORD)


def word_of(flags: Any, first: Any) -> Any:
    """64 flags, uint8 from `first` on, as the bits of a uint64, the first the lowest: set where the flag is not 0."""
    raise NotImplementedError("only inside compiled kernels")


@jitable
def set_marks(marks: Any, place: Any, flags: Any) -> None:
    """Set the marks of `FLAGS` entries, of which the first is entry `place`."""
    for w in range(FLAGS // _WORD):
        marks[np.uint64(np.uint64(place) // np.uint64(_WORD) + np.uint64(w))] = word_of(flags, w * _WORD)


def marked_range_pass(rule: Callable[..., Any]) -> Callable[..., Any]:
    """The pass over a range of entries (`hubmerge.kernels`) for deltas of which some are dropped, and the others multiplied.

    ``run(base, parents, entry, state, arguments, out, offset, low, high) -> exponent bits``: state holds the parents' marks
    as uint32, the factors of what is kept, and a uint32(0) for each parent; offset + low is a multiple of 32.
    """
    rule_ = called_inside(rule)

    def merge_entry(base: Any, parents: Any, entry: Any, words: Any, bit: Any, factors: Any, arguments: Any, i: Any) -> Any:
        origin = load(base[i])
        worst = exponent(origin)
        for k in range(len(parents)):
            value = load(parents[k][i])
            worst = max(worst, exponent(value))
            delta = float32(float32(value - origin) * factors[k])
            entry = replaced(entry, k, delta if np.uint32(words[k] & bit) != np.uint32(0) else float32(0))
        merged = float32(origin + float32(rule_(entry, *arguments)))
        return merged, max(worst, exponent(merged))

    merge_entry_ = called_inside(merge_entry)

    def run(
        base: Any, parents: Any, entry: Any, state: Any, arguments: Any, out: Any, offset: Any, low: Any, high: Any
    ) -> Any:
        marks, factors, words = state
        worst = np.uint32(0)
        for start in range(low, high, np.uint64(_HALF)):
            for k in range(len(parents)):
                words = replaced(words, k, marks[k][(np.uint64(offset) + start) // np.uint64(_HALF)])
            if start + np.uint64(_HALF) <= high:
                for j in range(np.uint32(_HALF)):  # of a known length: a shorter vector loop is none
                    i = start + np.uint64(j)
                    bit = np.uint32(np.uint32(1) << np.uint32(j))
                    merged, found = merge_entry_(base, parents, entry, words, bit, factors, arguments, i)
                    store(out, i, merged)
                    worst = max(worst, found)
            else:
                for j in range(np.uint32(high - start)):
                    i = start + np.uint64(j)
                    bit = np.uint32(np.uint32(1) << np.uint32(j))
                    merged, found = merge_entry_(base, parents, entry, words, bit, factors, arguments, i)
                    store(out, i, merged)
                    worst = max(worst, found)
        return worst

    return run


@when_compiling
def _tell_numba() -> None:
    from llvmlite import ir
    from numba import types
    from numba.extending import intrinsic, overload

    @intrinsic  # type: ignore[untyped-decorator]
    def packed(_typing: Any, address: Any) -> Any:
        def build(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            bytes_ = ir.VectorType(ir.IntType(8), _WORD)
            found = builder.load(builder.inttoptr(arguments[0], bytes_.as_pointer()), align=1)
            told = builder.icmp_unsigned("!=", found, ir.Constant(bytes_, [0] * _WORD))
            return builder.bitcast(told, ir.IntType(_WORD))

        return types.uint64(types.int64), build

    @overload(word_of)  # type: ignore[untyped-decorator]
    def _word_of(flags: Any, first: Any) -> Callable[[Any, Any], Any]:  # noqa: ARG001 - numba matches on names
        def packed_flags(flags: Any, first: Any) -> Any:
            return packed(np.int64(flags.ctypes.data) + np.int64(first))

        return packed_flags
