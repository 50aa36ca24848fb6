"""How a tensor is cut: chunks, whole rows, and blocks whose sums are added up in order."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from hubmerge import gram_kernels
from hubmerge.io.workspace import CHUNK

__all__ = ["block_reads", "row_length", "row_units", "spans"]


def spans(start: int, stop: int, size: int = CHUNK) -> Iterator[tuple[int, int]]:
    """The ranges of at most `size` that make up `start` to `stop`."""
    for low in range(start, stop, size):
        yield low, min(low + size, stop)


def row_length(shape: Sequence[int]) -> int:
    """Entries of a row along the last dimension; a tensor without dimensions is one row."""
    return shape[-1] if shape else 1


def row_units(shape: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Ranges of whole rows, about `gram_kernels.GRAM_BLOCK` entries each and never less than a row: they fix the order of sums."""
    columns = row_length(shape)
    return spans(0, math.prod(shape), max(1, gram_kernels.GRAM_BLOCK // max(1, columns)) * max(1, columns))


def block_reads(entries: int) -> Iterator[tuple[int, int]]:
    """Ranges that are read at once by a measure: whole blocks of sums, whatever the chunks of the merge are."""
    return spans(0, entries, 4 * gram_kernels.GRAM_BLOCK)
