"""Accuracies: with the task known, over all labels without it, and what a merge is held against.

A model's outputs go by name: the label "7" is the digit 7, or the package of this number, wherever it stands.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import deepcopy
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.heterogeneous.data import Batch
from benchmarks.heterogeneous.examples import Examples
from benchmarks.heterogeneous.settings import ALL, ImageSet, Setting

__all__ = ["Outputs", "accuracy", "ensemble", "outputs_of", "renormalised", "scores"]

Outputs = Callable[[npt.NDArray[Any]], npt.NDArray[np.float32]]
"""Inputs of n examples -> one number for each of them and ten labels, -inf for a label that the model does not know."""

_AT_ONCE = 250


def outputs_of(model: Any) -> Outputs:
    """The logits of a transformers classifier, ordered by label."""
    import torch

    known = [int(model.config.id2label[index]) for index in range(len(model.config.id2label))]

    def outputs(inputs: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        ordered = np.full((len(inputs), len(ALL)), -np.inf, np.float32)
        with torch.inference_mode():
            for start in range(0, len(inputs), _AT_ONCE):
                part = torch.from_numpy(inputs[start : start + _AT_ONCE])
                ordered[start : start + _AT_ONCE, known] = model(**{model.main_input_name: part}).logits.numpy()
        return ordered

    return outputs


def ensemble(parents: Sequence[Outputs], labels: str) -> Outputs:
    """All parents at once, at their summed cost.

    shared: the mean of their probabilities.  disjoint: their logits side by side, as in a model with joined heads.
    """

    def shared(inputs: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        every = np.stack([parent(inputs) for parent in parents])
        exponentials = np.exp(every - every.max(axis=-1, keepdims=True))
        mean: npt.NDArray[np.float32] = (exponentials / exponentials.sum(axis=-1, keepdims=True)).mean(axis=0)
        return mean

    def disjoint(inputs: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        every = np.stack([parent(inputs) for parent in parents])
        if (np.isfinite(every[:, 0]).sum(axis=0) > 1).any():
            raise ValueError("two parents know the same label")
        joined: npt.NDArray[np.float32] = every.max(axis=0)
        return joined

    return disjoint if labels == "disjoint" else shared


def accuracy(outputs: Outputs, images: Examples, among: Sequence[int]) -> float | None:
    """Per cent of `images` whose own digit has the largest output of those in `among`; None when it knows none of them.

    An image for which some output is not a number counts as wrong: a merge that overflows has not answered.
    """
    given = outputs(images.inputs)[:, list(among)]
    if np.isneginf(given).all():
        return None
    guessed = np.asarray(among)[given.argmax(axis=1)]
    right = (guessed == images.labels) & ~np.isnan(given).any(axis=1)
    return 100 * float(right.mean())


def scores(outputs: Outputs, setting: Setting, held_out: Mapping[ImageSet, Examples]) -> dict[str, float | None]:
    """The accuracy on every task of a setting, the model being told the task, and their mean.

    mean: None when it does not know one of the tasks.  joint, where the heads are joined: over the images of all tasks and
    all labels, the task being unknown.
    """
    found: dict[str, float | None] = {
        task.name: accuracy(outputs, held_out[task.images].only(task.labels), task.labels) for task in setting.tasks
    }
    known = [value for value in found.values() if value is not None]
    found["mean"] = sum(known) / len(found) if len(known) == len(found) else None
    if setting.labels == "disjoint":
        (images,) = setting.images
        found["joint"] = accuracy(outputs, held_out[images], ALL)
    return found


def renormalised(model: Any, batches: Iterable[Batch]) -> Any:
    """A copy of `model` whose BatchNorm statistics are the mean of those of `batches`; nothing else is changed.

    The control of every merge that estimates them again: what the base alone gains by it.
    """
    import torch

    copy = deepcopy(model)
    norms = [module for module in copy.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean over batches
    copy.train()
    with torch.no_grad():
        for batch in batches:
            copy(**batch)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return copy.eval()
