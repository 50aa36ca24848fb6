"""What a method must know of a whole tensor before it can merge an entry: exact thresholds and inner products, streamed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from hubmerge import kernels
from hubmerge.io.reader import CHUNK, StepReader

__all__ = ["gram_matrix", "magnitude_thresholds", "spans"]

Array = npt.NDArray[Any]


def spans(start: int, stop: int, size: int = CHUNK) -> Iterator[tuple[int, int]]:
    """The ranges of at most `size` that make up `start` to `stop`."""
    for low in range(start, stop, size):
        yield low, min(low + size, stop)


def magnitude_thresholds(reader: StepReader, densities: tuple[float, ...]) -> tuple[np.float32, ...]:
    """For every parent the exact k-th largest magnitude of its delta, k = max(1, int(density * entries)); 0 keeps all.

    Two passes: a histogram of the upper 16 bits of the magnitudes finds the bin, one of the lower 15 bits the number in it.
    Counts are integers, so that the order of reading does not matter.
    """
    count, parents = reader.step.output.numel, len(reader.step.operands)
    kept = [max(1, int(density * count)) for density in densities]
    if all(k >= count for k in kept):
        return (np.float32(0),) * parents
    high = np.zeros((parents, 1 << 16), np.int64)
    low = np.zeros((parents, 1 << 15), np.int64)
    for first, last in spans(0, count):
        base, *deltas = reader.read(first, last)
        kernels.high_magnitudes_kernel()(base, tuple(deltas), high)
    bins, rest = zip(*(_bin_of(high[p], k) for p, k in enumerate(kept)), strict=True)
    upper = np.array(bins, np.uint32)
    for first, last in spans(0, count):
        base, *deltas = reader.read(first, last)
        kernels.low_magnitudes_kernel()(base, tuple(deltas), upper, low)
    lower = [_bin_of(low[p], k)[0] for p, k in enumerate(rest)]
    thresholds = ((upper << np.uint32(15)) | np.array(lower, np.uint32)).view(np.float32)
    return tuple(np.float32(0) if k >= count else t for k, t in zip(kept, thresholds, strict=True))


def _bin_of(counts: Array, k: int) -> tuple[int, int]:
    """The bin that holds the k-th largest, and which of that bin's members it is, counted from the largest."""
    above = np.cumsum(counts[::-1])
    position = int(np.searchsorted(above, k))
    before = int(above[position - 1]) if position else 0
    return len(counts) - 1 - position, k - before


def gram_matrix(reader: StepReader, operand: str) -> Array:
    """Inner products of the parents' operands, float64 (parents, parents).

    Blocks have a fixed length and are added in order, so that the sums depend on nothing but the tensors.
    """
    step = reader.step
    parents = len(step.operands)
    gram = np.zeros((parents, parents))
    run = kernels.gram_kernel(operand)
    for first, last in spans(0, step.output.numel):
        chunks = reader.read(first, last)
        for low, high in spans(0, last - first, kernels.GRAM_BLOCK):
            block = tuple(chunk[low:high] for chunk in chunks)
            run(block[0], block[1:] if step.base else block, gram)
    return gram
