"""One row of data given to a model: its logits, and the loss that its labels or the next tokens make of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hubmerge.errors import MergeError, PlanError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["answers_of", "check_labels", "logits_of", "loss_of", "rows_of"]

_LABELS = "labels"
_IGNORED = -100
"""The label of a token that does not count, as in transformers."""


def rows_of(batches: Sequence[Mapping[str, Tensor]]) -> Iterator[dict[str, Tensor]]:
    """Every row of the batches as a batch of its own; tokens that only fill the row up on its right are cut."""
    for batch in batches:
        size = len(next(iter(batch.values())))
        for i in range(size):
            row = {name: values[i : i + 1] for name, values in batch.items()}
            mask = row.get("attention_mask")
            if mask is not None and mask.ndim == 2:
                length = int(mask.sum())
                if 0 < length < mask.shape[1] and bool(mask[0, :length].all()):
                    wide = mask.shape[1]
                    row = {
                        name: values[:, :length] if values.ndim == 2 and values.shape[1] == wide else values
                        for name, values in row.items()
                    }
            yield row


def check_labels(batches: Sequence[Mapping[str, Tensor]], where: str) -> None:
    """`PlanError` for batches with neither labels nor tokens that follow one another: nothing has to be run to see that."""
    if any(_LABELS not in batch and "input_ids" not in batch for batch in batches):
        raise _no_labels(where)


def _no_labels(where: str) -> PlanError:
    return PlanError(
        "the calibration data has no labels, and the loss of this model needs them",
        where=where,
        hint="give labels: numbers of classes; only language models that predict the next token need none",
    )


def logits_of(model: Any, row: Mapping[str, Tensor], whose: str) -> Tensor:
    """The logits of one row, (classes,) or (tokens, classes), of tokens that the row has.

    Raises `MergeError` for a model that cannot be run on the row, or gives no logits.
    """
    logits = answers_of(model, row, whose)
    if logits.ndim not in {2, 3} or len(logits) != 1:
        raise _no_logits(whose)
    found = logits[0]
    mask = row.get("attention_mask")
    if found.ndim == 2 and mask is not None and mask.shape[1:] == found.shape[:1]:
        found = found[mask[0].bool()]
    return found


def answers_of(model: Any, batch: Mapping[str, Tensor], whose: str) -> Tensor:
    """The logits of a batch as the model gives them, (rows, classes) or (rows, tokens, classes); `MergeError` as above."""
    import torch

    inputs = {name: values for name, values in batch.items() if name != _LABELS}
    try:
        answer = model(**inputs)
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # any model's forward, on inputs that it may not be made for
        told = " ".join(str(error).split())
        raise MergeError(
            f"it cannot be run on the calibration data ({type(error).__name__}: {told[:200]})",
            where=whose,
            hint="name data of the kind that all models take",
        ) from error
    logits = answer if isinstance(answer, torch.Tensor) else getattr(answer, "logits", None)
    if not isinstance(logits, torch.Tensor) or logits.ndim not in {2, 3}:
        raise _no_logits(whose)
    return logits


def _no_logits(whose: str) -> MergeError:
    return MergeError(
        "it gives no logits of a class or a token for each row of the calibration data",
        where=whose,
        hint="take parents with a head: classifiers or language models",
    )


def loss_of(model: Any, row: Mapping[str, Tensor], logits: Tensor, where: str) -> Tensor:
    """Cross entropy of one row's `logits`: with its labels, or without any, of a language model, with each next token; the mean over tokens.

    Raises `PlanError` for labels that are missing or do not fit the logits; where: the place of the data.
    """
    import torch
    from torch.nn.functional import cross_entropy

    labels, mask = row.get(_LABELS), row.get("attention_mask")
    if labels is None:
        ids = row.get("input_ids")
        if logits.ndim != 2 or ids is None or not _is_causal(model):
            raise _no_labels(where)
        targets = ids[0] if mask is None else ids[0][mask[0].bool()]
        logits, targets = logits[:-1], targets[1:]
    elif labels.ndim == 1 and logits.ndim == 1:
        logits, targets = logits[None], labels
    elif labels.ndim == 2 and logits.ndim == 2:
        targets = labels[0] if mask is None or mask.shape != labels.shape else labels[0][mask[0].bool()]
        if _has_config(model) and _is_causal(model):
            logits, targets = logits[:-1], targets[1:]
    else:
        raise _odd_labels(labels, where)
    if targets.is_floating_point() or len(targets) != len(logits):
        raise _odd_labels(labels, where)
    targets = targets.long()
    counted = targets[targets != _IGNORED]
    if not len(counted) or bool(((counted < 0) | (counted >= logits.shape[-1])).any()):
        raise PlanError(
            f"labels are numbers of classes from 0 to {logits.shape[-1] - 1}, got {counted.tolist()[:8]}"
            if len(counted)
            else "a row has no label, or a single token, so that there is nothing to predict",
            where=where,
            hint="mend the row, or leave it out",
        )
    loss: torch.Tensor = cross_entropy(logits.float(), targets, ignore_index=_IGNORED)
    return loss


def _odd_labels(labels: Any, where: str) -> PlanError:
    shape = None if labels is None else tuple(labels.shape)
    return PlanError(
        f"labels of shape {shape} do not go with the model's logits",
        where=where,
        hint="give one whole number for each row of a classifier, or for each token",
    )


def _has_config(model: Any) -> bool:
    return hasattr(model, "config")


def _is_causal(model: Any) -> bool:
    """Whether a model predicts the next token; one of torch alone, without a config, is taken at its data's word."""
    name = type(model).__name__
    return not _has_config(model) or "CausalLM" in name or "LMHead" in name
