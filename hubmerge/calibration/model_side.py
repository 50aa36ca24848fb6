"""What a model can be given, by its files and its config: texts, pictures, numbers; how long texts may be, how many channels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hubmerge.calibration.samples import Kind, Sample
from hubmerge.errors import PlanError
from zoo_index.hub import ModelSource

__all__ = [
    "IMAGE_FILES",
    "TOKENIZER_FILES",
    "channels_of",
    "check_kind",
    "check_pixels",
    "kinds_taken",
    "longest_text",
    "vocabulary_size",
]

TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "tokenizer.model", "spiece.model", "vocab.json", "vocab.txt",
)  # fmt: skip
IMAGE_FILES = ("preprocessor_config.json", "processor_config.json")
_POSITIONS = ("max_position_embeddings", "n_positions")
_INNER = ("text_config", "vision_config")


def kinds_taken(source: ModelSource) -> frozenset[Kind]:
    """What the model's own files can prepare: text with a tokenizer, image with an image processor."""
    files = source.files()
    found: dict[Kind, bool] = {
        "text": any(name in files for name in TOKENIZER_FILES),
        "image": any(name in files for name in IMAGE_FILES),
    }
    return frozenset(kind for kind, is_there in found.items() if is_there)


def check_kind(kind: Kind, source: ModelSource, config: Mapping[str, Any]) -> None:
    """`PlanError` when the model cannot be given data of this kind."""
    model = str(source.pinned.reference)
    if kind == "pixels":
        if vocabulary_size(config) is not None and channels_of(config) is None:
            hint = "name data of texts"
            raise PlanError(
                f"{model} reads texts, and the calibration data is pixels", where="calibration.data", hint=hint
            )
        return
    if kind == "text" and _reads_pictures_alone(config):
        raise PlanError(
            f"{model} reads images, and the calibration data is texts",
            where="calibration.data",
            hint="name data of images, or .npz with pixel_values",
        )
    if kind not in kinds_taken(source):
        what, data = ("tokenizer", "texts") if kind == "text" else ("image processor", "images")
        file = TOKENIZER_FILES[0] if kind == "text" else IMAGE_FILES[0]
        other = "images" if kind == "text" else "texts, or .npz with pixel_values"
        raise PlanError(
            f"{model} has no {what}, and the calibration data is {data}",
            where="calibration.data",
            hint=f"save the {what} into the model's folder (expected {file}), or name data of {other}",
        )


def _reads_pictures_alone(config: Mapping[str, Any]) -> bool:
    """Whether texts are nothing for the model; the config of a classifier out of two towers still has that of the texts."""
    is_classifier = "ForImageClassification" in str((config.get("architectures") or [""])[0])
    return is_classifier or (vocabulary_size(config) is None and channels_of(config) is not None)


def check_pixels(samples: Sequence[Sample], kind: Kind, config: Mapping[str, Any]) -> None:
    """`PlanError` for the first of `samples` that is not finite, of another size, or of other channels than the model's."""
    if kind != "pixels":
        return
    channels = channels_of(config)
    arrays = [np.asarray(sample.value) for sample in samples]
    for sample, array in zip(samples, arrays, strict=True):
        what = None
        if channels is not None and array.shape[0] != channels:
            what = f"has {array.shape[0]} channels, and the model takes {channels}"
        elif array.shape != arrays[0].shape:
            what = f"is of shape {array.shape}, and those before it are {arrays[0].shape}"
        elif not np.isfinite(array).all():
            what = "has a number that is not finite"
        if what is not None:
            hint = "pixels are finite numbers (channels, height, width), all of one size"
            raise PlanError(f"{sample.place} {what}", where="calibration.data", hint=hint)


def longest_text(config: Mapping[str, Any]) -> int | None:
    """How many tokens the model has positions for; None when its config does not say."""
    return _smallest(config, _POSITIONS)


def vocabulary_size(config: Mapping[str, Any]) -> int | None:
    """How many tokens the model has rows for; None when its config does not say."""
    return _smallest(config, ("vocab_size",))


def channels_of(config: Mapping[str, Any]) -> int | None:
    """How many channels the model's images have; None when its config does not say."""
    return _smallest(config, ("num_channels",))


def _smallest(config: Mapping[str, Any], fields: tuple[str, ...]) -> int | None:
    """The smallest number above 0 that the config, or the part of it for text or vision, has in one of `fields`."""
    parts = [config, *(part for name in _INNER if isinstance(part := config.get(name), Mapping))]
    found = [value for part in parts for name in fields if type(value := part.get(name)) is int and value > 0]
    return min(found, default=None)
