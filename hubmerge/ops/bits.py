"""Numbers as bit patterns: bfloat16 and float32 chunks read and written inside compiled kernels.

A chunk is an unsigned array: uint16 holds bfloat16, uint32 holds float32.  `load` gives an entry as float32, `store`
rounds to nearest even.  Both exist only inside numba code, where the array's type picks the conversion.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from hubmerge.jit import INSIDE, jitable, when_compiling

__all__ = ["EXPONENT", "exponent", "load", "replaced", "store"]

EXPONENT = np.uint32(0x7F800000)
"""The exponent bits of a float32; all set means infinite or NaN."""


def load(bits: Any) -> Any:
    """The float32 behind one bit pattern (uint16: bfloat16, uint32: float32)."""
    raise NotImplementedError("only inside compiled kernels")


def store(out: Any, i: Any, value: Any) -> None:
    """Write float32 `value` to ``out[i]``, rounded to nearest even where `out` holds bfloat16."""
    raise NotImplementedError("only inside compiled kernels")


def replaced(entry: Any, k: Any, value: Any) -> Any:
    """The tuple `entry` with its k-th element replaced, for a k known only in a loop that the compiler unrolls."""
    return (*entry[:k], value, *entry[k + 1 :])


@jitable
def exponent(value: Any) -> Any:
    """The exponent bits of a float32, as uint32: equal to `EXPONENT` when the number is not finite."""
    # numba's & of two 32-bit numbers has 64 bits, which halve the vectors: a linear merge took half as long again
    return np.uint32(np.float32(value).view(np.uint32) & EXPONENT)


@when_compiling
def _tell_numba() -> None:
    # numba demands that the functions below have the argument names and annotations of those above
    from numba import types
    from numba.cpython.unsafe.tuple import tuple_setitem
    from numba.extending import overload

    @overload(load, jit_options=INSIDE)  # type: ignore[untyped-decorator]
    def _load(bits: Any) -> Callable[[Any], Any] | None:
        def load_bfloat16(bits: Any) -> Any:
            return np.uint32(np.uint32(bits) << np.uint32(16)).view(np.float32)

        def load_float32(bits: Any) -> Any:
            return np.uint32(bits).view(np.float32)

        return {types.uint16: load_bfloat16, types.uint32: load_float32}.get(bits)

    @overload(store, jit_options=INSIDE)  # type: ignore[untyped-decorator]
    def _store(out: Any, i: Any, value: Any) -> Callable[[Any, Any, Any], None]:  # noqa: ARG001 - numba matches on names
        if out.dtype == types.uint16:

            def store_bfloat16(out: Any, i: Any, value: Any) -> None:
                bits = np.float32(value).view(np.uint32)
                odd = (bits >> np.uint32(16)) & np.uint32(1)
                out[i] = np.uint16((bits + np.uint32(0x7FFF) + odd) >> np.uint32(16))

            return store_bfloat16

        def store_float32(out: Any, i: Any, value: Any) -> None:
            out[i] = np.float32(value).view(np.uint32)

        return store_float32

    @overload(replaced, jit_options=INSIDE)  # type: ignore[untyped-decorator]
    def _replaced(entry: Any, k: Any, value: Any) -> Callable[[Any, Any, Any], Any]:  # noqa: ARG001 - as above
        def replaced_element(entry: Any, k: Any, value: Any) -> Any:
            return tuple_setitem(entry, k, value)

        return replaced_element
