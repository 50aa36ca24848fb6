"""A batch looked at a few samples at a time, where the rows that a layer makes of all of them would take much memory.

What is added up over the parts has other last digits than over the whole; the parts depend on the batch and the layer alone, and never
on how much memory is allowed.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hubmerge.heterogeneous.batches import Batch

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["MOST", "Part", "sample_parts"]

MOST = 2**26
"""Bytes of rows, in float64, that are made at once, where one sample does not make more."""


@dataclass(frozen=True)
class Part:
    """Some of the samples of a batch, one after another.  samples: of the whole batch."""

    start: int
    stop: int
    samples: int

    def of(self, values: Tensor, axis: int = 0) -> Tensor:
        """The part of a tensor that has, along `axis`, as many entries for every sample; the tensor itself for the whole batch."""
        if (self.start, self.stop) == (0, self.samples):
            return values
        each = values.shape[axis] // self.samples
        return values.narrow(axis, self.start * each, (self.stop - self.start) * each)


def sample_parts(batch: Batch, tensors: Collection[Tensor], module: Any, kind: str, fed: Tensor) -> tuple[Part, ...]:
    """The parts in which a layer is looked at: as many samples as make `MOST` bytes of rows, or one.

    tensors: what will be cut, first axis first; a batch is whole where one of them, or one of its own, has not the same number of
    entries for every sample.  module, kind: of the layer; fed: what goes into it.
    """
    sizes = {len(values) for values in batch.values()}
    samples = next(iter(sizes))
    if len(sizes) > 1 or any(len(values) % samples for values in tensors):
        return (Part(0, samples, samples),)
    outputs, inputs = len(module.weight), module.weight.numel() // len(module.weight)
    if kind == "convolution":
        pairs = zip(fed.shape[2:], module.kernel_size, module.stride, module.padding, strict=True)
        rows = len(fed) * math.prod((size + 2 * pad - kernel) // stride + 1 for size, kernel, stride, pad in pairs)
    else:
        rows = fed.numel() // fed.shape[-1]
    step = max(1, MOST * samples // max(1, 8 * rows * (inputs + outputs)))
    return tuple(Part(low, min(low + step, samples), samples) for low in range(0, samples, step))
