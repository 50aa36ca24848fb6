"""DoRA's factors: what each row or column of a base with its low-rank term is multiplied with, to have the length it learned.

Source: Liu et al. 2024, DoRA, arXiv:2402.09353, equation 5: m (W + s B A) / |W + s B A|, lengths over the inputs of an output.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from hubmerge.ranges import spans

__all__ = ["gains_of", "multiply_by_gains"]

Array = npt.NDArray[Any]


def gains_of(
    lengths: Array, rows: int, columns: int, transposed: bool, read: Callable[[int, int], Array], most: int
) -> Array:
    """Learned length over own length, float32: one for each of `rows`, or of `columns` where transposed.

    lengths: what was learned, one for each.  read: entries from a first to a last of the base with its low-rank term, float32, valid
    until the next call; at most about `most` are asked for at once.  Squares are summed in float64.
    """
    squares = np.zeros(columns if transposed else rows)
    for first, last in spans(0, rows, max(1, most // columns)):
        block = read(first * columns, last * columns).reshape(-1, columns)
        if transposed:
            squares += np.einsum("ij,ij->j", block, block, dtype=np.float64)
        else:
            squares[first:last] = np.einsum("ij,ij->i", block, block, dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):  # a length of 0 gives what is not finite, and is reported so
        gains: Array = (lengths / np.sqrt(squares)).astype(np.float32)
    return gains


def multiply_by_gains(entries: Array, start: int, gains: Array, columns: int, transposed: bool) -> None:
    """Multiply float32 entries `start`, ... of a (rows, columns) tensor in row order, in place."""
    places = np.arange(start, start + entries.size)
    with np.errstate(invalid="ignore", over="ignore"):
        entries *= gains[places % columns if transposed else places // columns]
