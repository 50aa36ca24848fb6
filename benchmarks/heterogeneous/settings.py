"""What is merged and measured: data, parents, how they are trained, and which of them meet in which setting.

Written before the method that is measured, and not changed to please it.  The training recipes were chosen with seeds 100
and 101, which are none of `SEEDS`, by looking at the parents alone.  Two parents of a setting never share their initialisation:

same: both know MNIST.  domain: one knows MNIST, the other scikit-learn's digits, under the same ten labels.  split: one
knows 0 to 4, the other 5 to 9, each with a head of its own.  wider and narrower: domain, with a donor of another width.
calibration: domain, with fewer images.  deeper and shallower: domain, or split for a ViT, with a donor of more or fewer blocks.
regmean: domain, regmean_split: split, for another way to fit.  proxy: split, calibrated on what is not the parents' data.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

__all__ = [
    "ALL",
    "CALIBRATION",
    "CALIBRATION_SIZES",
    "HELD_OUT",
    "HIGH",
    "LOW",
    "MODELS",
    "MORE_SEEDS",
    "PARENTS",
    "RECIPES",
    "SEEDS",
    "SETTINGS",
    "SIDES",
    "ImageSet",
    "Model",
    "Parent",
    "Proxy",
    "Recipe",
    "Setting",
    "Task",
]

SEEDS = (0, 1, 2, 3, 4)
"""Each decides the division of the data, the initialisations, the order of training and the calibration images."""

MORE_SEEDS = tuple(range(5, 20))
"""Beside them, for what is to be reached alone: over five seeds the difference of two lines is known to several points only.

They were fixed after `SEEDS` had been measured, and before anything was measured with these.
"""

HELD_OUT = 0.2
"""The share of every label's images that no training and no calibration sees: accuracies are measured on them."""

CALIBRATION = 600
CALIBRATION_SIZES = (50, 100, 300, 600)
"""Training images, without their labels, that matching, least squares and BatchNorm see; as many of each parent's data."""

LOW, HIGH = (0, 1, 2, 3, 4), (5, 6, 7, 8, 9)
ALL = LOW + HIGH

Model = Literal["resnet", "vit", "bert"]
ImageSet = Literal["mnist", "digits", "small digits", "code", "prose"]
"""Of images; `code` and `prose` are texts, which have settings of their own (`text_settings`)."""
Proxy = Literal["digits", "noise"]
"""What stands in for the parents' data: images of another set, or smooth noise."""

MODELS: tuple[Model, ...] = ("resnet", "vit")
SIDES: Mapping[ImageSet, int] = {"mnist": 32, "digits": 32, "small digits": 8}
"""Pixels of a side.  mnist: 5,000 images of 28 pixels with a border of 2.  digits: 1,797 of 8 pixels, each drawn 4 times
as large; small digits: the same as they are."""


@dataclass(frozen=True)
class Recipe:
    """How a parent is trained: AdamW, one cycle of the learning rate, images shifted at random.

    epochs, batch: as usual.  rate: the highest learning rate.  decay: AdamW's weight decay.  shift: pixels at most, in
    each direction; 0 leaves the images where they are.
    """

    epochs: int
    rate: float
    batch: int
    decay: float
    shift: int


@dataclass(frozen=True)
class Parent:
    """A model that is trained for this benchmark.

    name: its folder.  width: of the first of three stages, of a ViT's stream, or of a
    BERT's feed-forward layers.  labels: the digits that it knows, in
    the order of its outputs.  number: with the seed it decides the initialisation and the order of training.  depths: blocks of every
    stage, where they are not the usual ones (2, 2, 2 of a ResNet, 3 layers of a ViT).
    """

    name: str
    model: Model
    width: int
    images: ImageSet
    labels: tuple[int, ...]
    number: int
    depths: tuple[int, ...] = ()

    def torch_seed(self, seed: int) -> int:
        return 1000 * seed + self.number


@dataclass(frozen=True)
class Task:
    """What is scored: the held-out images of `images` that show one of `labels`, the model being told which labels."""

    name: str
    images: ImageSet
    labels: tuple[int, ...]


@dataclass(frozen=True)
class Setting:
    """Parents that are merged, the first being the base, and the tasks that the merge is scored on.

    labels: "shared" where both know the same ten digits, "disjoint" where their heads are joined.
    """

    name: str
    model: Model
    parents: tuple[Parent, ...]
    tasks: tuple[Task, ...]
    labels: Literal["shared", "disjoint"]

    @property
    def images(self) -> tuple[ImageSet, ...]:
        """The parents' data, each once: calibration images are drawn from them in equal numbers."""
        return tuple(dict.fromkeys(parent.images for parent in self.parents))


RECIPES: Mapping[tuple[Model, ImageSet], Recipe] = {
    ("resnet", "mnist"): Recipe(epochs=14, rate=4e-3, batch=64, decay=0.01, shift=2),
    ("resnet", "digits"): Recipe(epochs=24, rate=4e-3, batch=64, decay=0.01, shift=2),
    ("vit", "small digits"): Recipe(epochs=60, rate=3e-3, batch=64, decay=0.05, shift=0),
}

_MNIST = Parent("resnet16-mnist-a", "resnet", 16, "mnist", ALL, 0)
_MNIST_B = Parent("resnet16-mnist-b", "resnet", 16, "mnist", ALL, 1)
_DIGITS = Parent("resnet16-digits", "resnet", 16, "digits", ALL, 2)
_DIGITS_WIDER = Parent("resnet24-digits", "resnet", 24, "digits", ALL, 3)
_DIGITS_NARROWER = Parent("resnet12-digits", "resnet", 12, "digits", ALL, 4)
_MNIST_LOW = Parent("resnet16-mnist-low", "resnet", 16, "mnist", LOW, 5)
_MNIST_HIGH = Parent("resnet16-mnist-high", "resnet", 16, "mnist", HIGH, 6)
_VIT = Parent("vit64-digits-a", "vit", 64, "small digits", ALL, 7)
_VIT_B = Parent("vit64-digits-b", "vit", 64, "small digits", ALL, 8)
_VIT_LOW = Parent("vit64-digits-low", "vit", 64, "small digits", LOW, 9)
_VIT_HIGH = Parent("vit64-digits-high", "vit", 64, "small digits", HIGH, 10)
_MNIST_DEEPER = Parent("resnet16-mnist-deeper", "resnet", 16, "mnist", ALL, 11, (3, 2, 3))
_DIGITS_DEEPER = Parent("resnet16-digits-deeper", "resnet", 16, "digits", ALL, 12, (3, 2, 3))
_VIT_LOW_DEEPER = Parent("vit64-digits-low-deeper", "vit", 64, "small digits", LOW, 13, (4,))
_VIT_HIGH_DEEPER = Parent("vit64-digits-high-deeper", "vit", 64, "small digits", HIGH, 14, (4,))

PARENTS: tuple[Parent, ...] = (
    _MNIST,
    _MNIST_B,
    _DIGITS,
    _DIGITS_WIDER,
    _DIGITS_NARROWER,
    _MNIST_LOW,
    _MNIST_HIGH,
    _VIT,
    _VIT_B,
    _VIT_LOW,
    _VIT_HIGH,
    _MNIST_DEEPER,
    _DIGITS_DEEPER,
    _VIT_LOW_DEEPER,
    _VIT_HIGH_DEEPER,
)

_TWO_DOMAINS = (Task("MNIST", "mnist", ALL), Task("digits", "digits", ALL))
_HALVES = (Task("0 to 4", "small digits", LOW), Task("5 to 9", "small digits", HIGH))

SETTINGS: tuple[Setting, ...] = (
    Setting("same", "resnet", (_MNIST, _MNIST_B), (Task("MNIST", "mnist", ALL),), "shared"),
    Setting("domain", "resnet", (_MNIST, _DIGITS), _TWO_DOMAINS, "shared"),
    Setting(
        "split",
        "resnet",
        (_MNIST_LOW, _MNIST_HIGH),
        (Task("0 to 4", "mnist", LOW), Task("5 to 9", "mnist", HIGH)),
        "disjoint",
    ),
    Setting("wider", "resnet", (_MNIST, _DIGITS_WIDER), _TWO_DOMAINS, "shared"),
    Setting("narrower", "resnet", (_MNIST, _DIGITS_NARROWER), _TWO_DOMAINS, "shared"),
    Setting("calibration", "resnet", (_MNIST, _DIGITS), _TWO_DOMAINS, "shared"),
    Setting(
        "proxy",
        "resnet",
        (_MNIST_LOW, _MNIST_HIGH),
        (Task("0 to 4", "mnist", LOW), Task("5 to 9", "mnist", HIGH)),
        "disjoint",
    ),
    Setting("deeper", "resnet", (_MNIST, _DIGITS_DEEPER), _TWO_DOMAINS, "shared"),
    Setting("shallower", "resnet", (_MNIST_DEEPER, _DIGITS), _TWO_DOMAINS, "shared"),
    Setting("regmean", "resnet", (_MNIST, _DIGITS), _TWO_DOMAINS, "shared"),
    Setting(
        "regmean_split",
        "resnet",
        (_MNIST_LOW, _MNIST_HIGH),
        (Task("0 to 4", "mnist", LOW), Task("5 to 9", "mnist", HIGH)),
        "disjoint",
    ),
    Setting("same", "vit", (_VIT, _VIT_B), (Task("digits", "small digits", ALL),), "shared"),
    Setting("split", "vit", (_VIT_LOW, _VIT_HIGH), _HALVES, "disjoint"),
    Setting("deeper", "vit", (_VIT_LOW, _VIT_HIGH_DEEPER), _HALVES, "disjoint"),
    Setting("shallower", "vit", (_VIT_LOW_DEEPER, _VIT_HIGH), _HALVES, "disjoint"),
    Setting("regmean_split", "vit", (_VIT_LOW, _VIT_HIGH), _HALVES, "disjoint"),
)
