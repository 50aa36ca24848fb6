"""What is merged and measured of language models: SmolLM2-135M-Instruct, a fine-tune of it, and a small llama trained from nothing.

Written before any result.  Rates are usual ones; none was tried out.  Seed 1 came after the results of seed 0, seed 2 after those of both;
of MAL, seed 1 after the results of seed 0.

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
    "MAL_SEEDS",
    "PROBE_BLOCKS",
    "SMALL",
    "Training",
]

LM_SEEDS = (0, 1, 2)
"""Each decides the order of training, the small llama's initialisation, the order of units and the calibration texts."""

MAL_SEEDS = (0, 1)
"""Of these, those with which MAL was measured."""

CODE = ("asyncio", "email")
"""Packages of Python's library."""

BLOCK = 128
"""Tokens of a text; the first is not predicted."""

HELD_OUT_BLOCKS = 12
"""Texts of either sort, code and prose, that are scored: evenly spread over every fourth file, or topic, which nothing else sees."""

CALIBRATION_BLOCKS = 8
"""Texts of either sort that models are run on to be matched and fitted."""

PROBE_BLOCKS = 4
"""Other texts of either sort, on which MAL may look at the loss."""


@dataclass(frozen=True)
class Training:
    """AdamW, one cycle of the learning rate, in bfloat16 but for the weights.

    steps: of `batch` blocks each.  rate: the highest learning rate.  layers, width: of a llama that is trained from nothing: how many
    there are, and of its feed-forward layers; 0 for one that is trained on.
    """

    name: str
    steps: int
    batch: int
    rate: float
    decay: float
    layers: int = 0
    width: int = 0


FINE_TUNE = Training("smollm2-code", steps=80, batch=4, rate=1e-4, decay=0.01)
SMALL = Training("llama4-code", steps=100, batch=4, rate=2e-3, decay=0.01, layers=4, width=1024)
"""Streams, heads and vocabulary are the base's; four layers for thirty, and feed-forward layers of 1,024 for 1,536."""
