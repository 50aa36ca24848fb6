"""The published model at work: loaded as anyone would load it, reading pictures it has never seen."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hubmerge.demo.digits import HALVES, drawing

__all__ = ["Reading", "drawn", "read_digits"]


@dataclass(frozen=True)
class Reading:
    """One held-out picture, uint8 of shape (32, 32), its label, what the model says and how sure it is (0 to 1)."""

    picture: npt.NDArray[np.uint8]
    label: str
    prediction: str
    confidence: float


def read_digits(model_folder: Path, pictures: Path) -> tuple[Reading, ...]:
    """Let the model in `model_folder` read the first held-out picture of each digit."""
    import torch
    from PIL import Image
    from transformers import AutoImageProcessor, AutoModelForImageClassification

    processor = AutoImageProcessor.from_pretrained(model_folder)
    model = AutoModelForImageClassification.from_pretrained(model_folder)
    files = [min((pictures / half / str(label)).iterdir()) for half, labels in HALVES.items() for label in labels]
    images = [Image.open(file) for file in files]
    inputs = processor([image.convert("RGB") for image in images], return_tensors="pt")
    with torch.inference_mode():
        certainty, answers = model(**inputs).logits.softmax(-1).max(-1)
    names = model.config.id2label
    return tuple(
        Reading(np.asarray(image), file.parent.name, names[int(answer)], float(sure))
        for image, file, answer, sure in zip(images, files, answers, certainty, strict=True)
    )


def drawn(readings: Sequence[Reading], per_line: int = 5) -> Iterator[str]:
    """The pictures side by side, each with ``label 3 -> 3 (98 %)`` below it; a wrong answer is marked."""
    for start in range(0, len(readings), per_line):
        group = readings[start : start + per_line]
        for line in zip(*(drawing(reading.picture) for reading in group), strict=True):
            yield "  ".join(line).rstrip()
        yield "  ".join(_caption(reading).ljust(16) for reading in group).rstrip()
        yield ""


def _caption(reading: Reading) -> str:
    mark = "" if reading.prediction == reading.label else " !"
    return f"{reading.label} -> {reading.prediction} ({reading.confidence:.0%}){mark}"
