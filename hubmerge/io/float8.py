"""float8 numbers as float32: by table, and times their scales.

E4M3 is the "FN" form that checkpoints use: no infinities, NaN only where all bits but the sign are set (Micikevicius et al.
2022, arXiv:2209.05433, §3).  E5M2 is a float16 cut after its second mantissa bit.  E8M0, which scales are stored in, is a
power of two (OCP Microscaling Formats, §5.4.1).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from zoo_index.tensors import DType, Scale

__all__ = ["float8_table", "multiply_by_scales", "scale_grid"]

Array = npt.NDArray[Any]


@cache
def float8_table(dtype: DType) -> Array:
    """float32 (256,): the number behind each of the 256 patterns of F8_E4M3, F8_E5M2 or F8_E8M0."""
    patterns = np.arange(256)
    if dtype is DType.F8_E5M2:
        return (patterns.astype(np.uint16) << np.uint16(8)).view(np.float16).astype(np.float32)
    if dtype is DType.F8_E8M0:
        powers = np.ldexp(np.ones(256), patterns - 127)
        powers[255] = np.nan
        return powers.astype(np.float32)
    exponents, mantissas = (patterns >> 3) & 15, patterns & 7
    normal = np.ldexp(1 + mantissas / 8, exponents - 7)
    numbers = np.where(exponents > 0, normal, np.ldexp(mantissas / 8, -6)) * np.where(patterns >> 7, -1.0, 1.0)
    numbers[(patterns & 127) == 127] = np.nan
    return numbers.astype(np.float32)


def scale_grid(scale: Scale, numbers: Array) -> Array:
    """The scales (float32, as they are stored) as a matrix: one line for each band of rows, one column for each of columns."""
    return np.ascontiguousarray(numbers.reshape(-1, -(-scale.columns // scale.block[1])))


def multiply_by_scales(out: Array, start: int, scale: Scale, grid: Array) -> None:
    """Multiply float32 entries `start`, `start` + 1, ... of a weight by their scales, in place."""
    _kernel()(out, start, grid, scale.columns, scale.per_matrix, *scale.block)


@cache
def _kernel() -> Callable[..., Any]:
    from numba import njit

    def run(out: Any, start: Any, grid: Any, columns: Any, per_matrix: Any, height: Any, width: Any) -> None:
        bands = (per_matrix + height - 1) // height
        done = 0
        while done < out.size:
            row = (start + done) // columns
            column = (start + done) % columns
            band = row // per_matrix * bands + row % per_matrix // height
            block = column // width
            count = min(min(columns, (block + 1) * width) - column, out.size - done)
            factor = grid[band, block]
            for j in range(done, done + count):
                out[j] *= factor
            done += count

    return njit(nogil=True, error_model="numpy")(run)  # type: ignore[no-any-return]
