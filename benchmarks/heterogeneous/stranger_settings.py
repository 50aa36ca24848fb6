"""What is merged and carried between tiny language models that were trained apart: sizes, texts, training, seeds.

Written before any result.  The training recipes were chosen with seed 100 by looking at the models alone.

The base knows Python code.  What is trained on prose is trained on from a model that knows code, so that there is a task vector.  A
sibling's own base is the base trained on, on code: one history.  A stranger's comes from other random weights, and so does a wide one's,
whose stream and feed-forward layers are half as wide again, with heads of the same size.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from benchmarks.heterogeneous.language_settings import Training

__all__ = [
    "ARCHITECTURES",
    "CALIBRATION_PIECES",
    "CHARACTERS",
    "HELD_OUT_PIECES",
    "PIECE",
    "STRANGERS",
    "STRANGER_SEEDS",
    "TRAININGS",
    "Architecture",
    "Stage",
    "Stranger",
]

STRANGER_SEEDS = (0, 1, 2, 3, 4)
"""Each decides every initialisation, the order of training and the calibration pieces.  The texts' division is one for all."""

CHARACTERS = "\n" + "".join(map(chr, range(32, 127)))
"""The vocabulary: a line's end and what ASCII prints.  Others are left out of the texts."""

PIECE = 64
"""Characters of a piece; the first is not predicted."""

HELD_OUT_PIECES = 500
"""Of either sort, code and prose: evenly spread over every fourth file, which nothing else sees."""

CALIBRATION_PIECES = 256
"""Half of them code, half prose, of the other files."""

Architecture = Literal["llama", "gpt2"]
ARCHITECTURES: tuple[Architecture, ...] = ("llama", "gpt2")
"""2 layers, a stream of 64, four heads, feed-forward layers of 256.  GPT-2's head is its embeddings, Llama's is its own."""

Stage = Literal["nothing", "more code", "prose"]

TRAININGS: Mapping[Stage, Training] = {
    "nothing": Training("from nothing, on code", steps=800, batch=16, rate=4e-3, decay=0.01),
    "more code": Training("trained on, on code", steps=300, batch=16, rate=1e-3, decay=0.01),
    "prose": Training("trained on, on prose", steps=300, batch=16, rate=1e-3, decay=0.01),
}


@dataclass(frozen=True)
class Stranger:
    """A model that is trained for this benchmark.

    name: its folder.  stage: its last training.  start: the model that it is trained on from; "" for random weights.  number: with the
    seed it decides the random weights and the order of training.  width: of its stream.
    """

    name: str
    stage: Stage
    start: str
    number: int
    width: int = 64


STRANGERS: tuple[Stranger, ...] = (
    Stranger("base", "nothing", "", 40),
    Stranger("tuned", "prose", "base", 41),
    Stranger("sibling-base", "more code", "base", 42),
    Stranger("sibling", "prose", "sibling-base", 43),
    Stranger("other-base", "nothing", "", 44),
    Stranger("other", "prose", "other-base", 45),
    Stranger("wide-base", "nothing", "", 46, width=96),
    Stranger("wide", "prose", "wide-base", 47, width=96),
)
"""In the order in which they are trained."""
