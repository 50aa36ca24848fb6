"""How unsure a model is of its answers: the entropy of its classes, or of its next tokens."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hubmerge.errors import NumbersError
from hubmerge.sensitivity.answers import answers_of

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["mean_entropy", "parts_of"]

_NOT_INPUTS = ("labels",)
"""What may stand in a batch and is never looked at."""


def parts_of(batches: Sequence[Mapping[str, Tensor]], rows: int) -> Iterator[dict[str, Tensor]]:
    """The batches in parts of at most so many rows, without labels; rows of two batches, which may be of other lengths, are not joined."""
    for batch in batches:
        inputs = {name: values for name, values in batch.items() if name not in _NOT_INPUTS}
        size = len(next(iter(inputs.values())))
        for start in range(0, size, rows):
            yield {name: values[start : start + rows] for name, values in inputs.items()}


def mean_entropy(model: Any, batch: Mapping[str, Tensor], whose: str) -> Tensor:
    """The mean over a batch's rows, or over its tokens, of -sum p log p, p the softmax of the logits; in nats, with its graph.

    Tokens that only fill a row up (`attention_mask` 0) are left out.  Raises `MergeError` for a model that cannot be run or gives no
    logits, `NumbersError` for logits that are not finite.
    """
    logits = answers_of(model, batch, whose)
    shares = logits.float().log_softmax(dim=-1)
    entropies = -(shares.exp() * shares).sum(dim=-1)
    mask = batch.get("attention_mask")
    if entropies.ndim == 2 and mask is not None and mask.shape == entropies.shape:
        entropies = entropies[mask.bool()]
    found: Tensor = entropies.mean()
    if not found.isfinite():
        raise NumbersError(
            f"the merge's answers on the data of {whose} are not finite",
            where=f"calibration of {whose}",
            hint="a row of the data is damaged, a parent is, or the coefficients are too large",
        )
    return found
