"""Documents cut into pieces, and these divided by seed: no document is in two parts."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.text_tasks.documents import documents
from benchmarks.text_tasks.settings import (
    ALL_LABELS,
    HELD_OUT_PER_DOCUMENT,
    PIECE,
    TRAIN_PER_DOCUMENT,
    Task,
)
from benchmarks.text_tasks.trainings import Base

__all__ = ["Examples", "Parts", "cut", "digest", "divided", "parts_of"]


@dataclass(frozen=True)
class Examples:
    """Pieces of text, and for each the place of its label in `ALL_LABELS`."""

    texts: tuple[str, ...]
    labels: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.texts)


@dataclass(frozen=True)
class Parts:
    """Of one task: what is trained on, what scales are chosen with, what is scored."""

    train: Examples
    calibration: Examples
    test: Examples


def parts_of(task: Task, base: Base, seed: int, packages: Path) -> Parts:
    """The pieces of all labels of a task; RuntimeError for a label with too few documents."""
    found: dict[str, list[tuple[str, int]]] = {"train": [], "calibration": [], "test": []}
    for label in task.labels:
        place = ALL_LABELS.index(f"{task.name}: {label.name}")
        generator = np.random.default_rng((seed, zlib.crc32(ALL_LABELS[place].encode())))
        pieces = [cut(text) for text in documents(task.sort, label, packages)]
        wanted = {"test": base.test, "calibration": base.calibration, "train": base.train}
        for part, texts in divided([each for each in pieces if each], wanted, generator).items():
            if len(texts) < min(wanted[part], 100):
                raise RuntimeError(f"{len(texts)} pieces to {part} of {ALL_LABELS[place]}, {wanted[part]} are wanted")
            found[part] += [(text, place) for text in texts]
    return Parts(
        **{
            part: Examples(tuple(text for text, _ in rows), tuple(label for _, label in rows))
            for part, rows in found.items()
        }
    )


def cut(text: str) -> tuple[str, ...]:
    """Pieces of whole words, of half of `PIECE` to `PIECE` characters; lines stay, more than one blank does not."""
    words = text.replace("\n", " \n ").split(" ")
    pieces: list[str] = []
    current = ""
    for word in words:
        if not word or (word == "\n" and current.endswith("\n")):
            continue
        longer = f"{current} {word}" if current and word != "\n" and not current.endswith("\n") else current + word
        if len(longer) > PIECE:
            pieces.append(current)
            longer = word
        current = longer
    stripped = (piece.strip() for piece in [*pieces, current])
    return tuple(piece for piece in stripped if PIECE // 2 <= len(piece) <= PIECE)


def divided(
    documents: Sequence[tuple[str, ...]], wanted: Mapping[str, int], generator: np.random.Generator
) -> dict[str, list[str]]:
    """Part -> its pieces, at most as many as are wanted: whole documents in random order, first for the first part."""
    order = iter(generator.permutation(len(documents)))
    found: dict[str, list[str]] = {}
    for part, number in wanted.items():
        most = TRAIN_PER_DOCUMENT if part == "train" else HELD_OUT_PER_DOCUMENT
        found[part] = []
        while len(found[part]) < number and (place := next(order, None)) is not None:
            pieces = documents[place]
            count = min(most, len(pieces))
            found[part] += [pieces[i * len(pieces) // count] for i in range(count)]
        del found[part][number:]
    return found


def digest(parts: Mapping[str, Parts]) -> str:
    """A short sha256 of everything that is trained on, chosen with and scored."""
    hashed = hashlib.sha256()
    for name, each in parts.items():
        for part in (each.train, each.calibration, each.test):
            hashed.update("\0".join((name, *part.texts)).encode())
    return hashed.hexdigest()[:16]
