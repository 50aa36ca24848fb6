"""How numpy sees elements as they are stored, and how they become float32."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from hubmerge.io.float8 import float8_table
from zoo_index.tensors import DType

__all__ = ["NUMPY", "singles", "to_singles"]

NUMPY = {
    DType.F64: "<f8", DType.F32: "<f4", DType.F16: "<f2", DType.BF16: "<u2", DType.I64: "<i8", DType.I32: "<i4",
    DType.I16: "<i2", DType.I8: "i1", DType.U64: "<u8", DType.U32: "<u4", DType.U16: "<u2", DType.U8: "u1", DType.BOOL: "u1",
    DType.C64: "<c8", DType.F8_E4M3: "u1", DType.F8_E5M2: "u1", DType.F8_E8M0: "u1",
}  # fmt: skip
"""How numpy sees a stored element; bfloat16 and float8 as their bits."""
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
