"""`Batches`: a calibration set as a model takes it, batch by batch, the same however often it is gone through."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from hubmerge.calibration.samples import Kind, Sample, digest_of

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Batches"]

_KEPT = 500_000_000
"""Most bytes of prepared batches that are kept, so that pictures are not opened anew for every layer."""


class Batches:
    """The samples that were drawn, prepared for the models.

    Iterating gives, for every batch in order, ``pixel_values`` (n, c, h, w) float32, or ``input_ids`` and
    ``attention_mask`` (n, tokens) int64, padded on the right; the tensors are not to be changed.  `len` is the number of
    samples.  digest: sha256 of what was drawn, whatever the batches.  notes: what a person would want to know of it.
    """

    def __init__(
        self,
        kind: Kind,
        samples: Sequence[Sample],
        prepare: Callable[[Sequence[Sample]], dict[str, Tensor]],
        batch: int,
        notes: tuple[str, ...] = (),
    ) -> None:
        self.kind = kind
        self.notes = notes
        self._samples = tuple(samples)
        self.digest = digest_of(self._samples)
        self._prepare = prepare
        self._batch = batch
        self._kept: tuple[dict[str, Tensor], ...] = ()

    def __len__(self) -> int:
        return len(self._samples)

    def __iter__(self) -> Iterator[Mapping[str, Tensor]]:
        """Raises `MergeError` for a sample that cannot be prepared, such as an image that is none."""
        if self._kept:
            yield from self._kept
            return
        made: list[dict[str, Tensor]] = []
        for start in range(0, len(self._samples), self._batch):
            inputs = self._prepare(self._samples[start : start + self._batch])
            if start == 0:
                size = sum(tensor.nbytes for tensor in inputs.values())
                fits = size * -(-len(self._samples) // self._batch) <= _KEPT
            if fits:
                made.append(inputs)
            yield inputs
        self._kept = tuple(made)
