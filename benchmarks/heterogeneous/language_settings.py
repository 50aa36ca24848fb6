"""What is merged and measured of language models: SmolLM2-135M-Instruct, and a fine-tune of it.

Written before any result.  Rates are usual ones; none was tried out.

The fine-tune is trained on code, all of its weights.  Its units are then put into another order by a random element of the
model's symmetries: every group that can be permuted, the stream among them.  It computes what it did, and no tensor of it stands beside
its like.  What a way of merging loses against the merge with the fine-tune as it was, is what it failed to match.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = [
    "BLOCK",
    "CALIBRATION_BLOCKS",
    "CODE",
    "FINE_TUNE",
    "HELD_OUT_BLOCKS",
    "LM_SEEDS",
    "Training",
]

LM_SEEDS = (0,)
"""Each decides the order of training, the order of units and the calibration texts."""

CODE = ("asyncio", "email")
"""Packages of Python's library."""

BLOCK = 128
"""Tokens of a text; the first is not predicted."""

HELD_OUT_BLOCKS = 12
"""Texts of either sort, code and prose, that are scored: evenly spread over every fourth file, or topic, which nothing else sees."""

CALIBRATION_BLOCKS = 8
"""Texts of either sort that models are run on to be matched and fitted."""


@dataclass(frozen=True)
class Training:
    """AdamW, one cycle of the learning rate, in bfloat16 but for the weights.

    steps: of `batch` blocks each.  rate: the highest learning rate.
    """

    name: str
    steps: int
    batch: int
    rate: float
    decay: float


FINE_TUNE = Training("smollm2-code", steps=80, batch=4, rate=1e-4, decay=0.01)
