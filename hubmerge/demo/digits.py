"""The pictures: scikit-learn's 1,797 handwritten digits, who has which of them, and how one looks in a terminal.

Source: UCI Machine Learning Repository, Optical Recognition of Handwritten Digits (CC BY 4.0), as shipped inside
scikit-learn: 8 by 8 pixels of 17 greys.  Nothing is downloaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

__all__ = [
    "HALVES",
    "PICTURE_SIZE",
    "UNLABELLED",
    "Digits",
    "Split",
    "drawing",
    "load_split",
    "write_pictures",
    "write_unlabelled",
]

PICTURE_SIZE = 32
"""Pictures are drawn 4 times as large, so that they can be looked at and a ResNet has something to halve."""

HALVES = {"low": (0, 1, 2, 3, 4), "high": (5, 6, 7, 8, 9)}
"""The two tasks: which digits each specialist has seen many of."""

UNLABELLED = 400
"""How many of the training pictures are handed out without labels, to merge models that share no ancestor."""

_HELD_OUT, _BASE = 599, 200
_INKS = " .:-=+*#%@"


@dataclass(frozen=True)
class Digits:
    """Pictures, uint8 of shape (n, 32, 32) where 255 is full ink, and their labels, int64 of shape (n,)."""

    pictures: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: npt.NDArray[np.int64]) -> Digits:
        return Digits(self.pictures[rows], self.labels[rows])

    def only(self, digits: Sequence[int]) -> Digits:
        """Those that show one of `digits`, in the same order."""
        return self.take(np.flatnonzero(np.isin(self.labels, digits)))


@dataclass(frozen=True)
class Split:
    """Who has which pictures.

    base: 200 of all digits, few enough that the base model has something left to learn.  train: 1,198, among them
    those 200.  held_out: 599 that no training sees.
    """

    base: Digits
    train: Digits
    held_out: Digits

    @property
    def unlabelled(self) -> npt.NDArray[np.uint8]:
        """The first `UNLABELLED` pictures of `train`, without their labels."""
        return self.train.pictures[:UNLABELLED]


def load_split(seed: int = 0) -> Split:
    """The digits, shuffled by `seed` and divided; the same for the same seed."""
    from sklearn.datasets import load_digits

    raw = load_digits()
    pixels = np.rint(raw.images * (255 / 16)).astype(np.uint8)
    scale = PICTURE_SIZE // pixels.shape[1]
    every = Digits(pixels.repeat(scale, axis=1).repeat(scale, axis=2), raw.target.astype(np.int64))
    order = np.random.default_rng(seed).permutation(len(every))
    train = order[_HELD_OUT:]
    return Split(base=every.take(train[:_BASE]), train=every.take(train), held_out=every.take(order[:_HELD_OUT]))


def write_pictures(digits: Digits, folder: Path) -> int:
    """Write `digits` as PNG image folders, ``folder/low/3/0007.png``, one subfolder per label; returns how many.

    Within a label the files are numbered in the order of `digits`.
    """
    from PIL import Image

    for half, members in HALVES.items():
        for label in members:
            place = folder / half / str(label)
            place.mkdir(parents=True, exist_ok=True)
            for number, picture in enumerate(digits.only([label]).pictures):
                Image.fromarray(picture).save(place / f"{number:04}.png")
    return len(digits)


def write_unlabelled(pictures: npt.NDArray[np.uint8], folder: Path) -> int:
    """Write pictures, (n, 32, 32), as ``folder/0000.png`` and on, in their order: no name tells a label; returns how many."""
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    for number, picture in enumerate(pictures):
        Image.fromarray(picture).save(folder / f"{number:04}.png")
    return len(pictures)


def drawing(picture: npt.NDArray[np.uint8]) -> tuple[str, ...]:
    """A picture of shape (32, 32) as 8 lines of 16 characters, darker characters for more ink."""
    step = PICTURE_SIZE // 8
    coarse = picture[step // 2 :: step, step // 2 :: step].astype(np.int64)
    levels = coarse * (len(_INKS) - 1) // 255
    return tuple("".join(_INKS[level] * 2 for level in row) for row in levels)
