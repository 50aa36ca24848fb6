"""The models, and how they are trained on each task; committed before any merge was scored.

The rates were chosen with seed 100, on one task, by looking at experts alone, and are the same for all tasks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["BASES", "HEAD_PER_LABEL", "HEAD_SPREAD", "Base", "BaseName", "Kind", "Training"]

Kind = Literal["full", "lora"]
BaseName = Literal["minilm", "smollm2"]

HEAD_PER_LABEL = 16
"""Training pieces of every label that its row of the head is made of."""

HEAD_SPREAD = 2.0
"""Standard deviation of the base's logits on these pieces: the head's scale."""


@dataclass(frozen=True)
class Training:
    """AdamW, one cycle, batches of as many pieces of every label as chance has it.  rank: of LoRA, with alpha equal to it."""

    kind: Kind
    steps: int
    rate: float
    batch: int = 16
    rank: int = 16


@dataclass(frozen=True)
class Base:
    """One model that is fine-tuned.

    tokens: of a piece at most.  train, calibration, test: pieces of every label at most.  targets: what LoRA changes, as PEFT names it.
    """

    name: BaseName
    title: str
    tokens: int
    train: int
    calibration: int
    test: int
    trainings: tuple[Training, ...]
    targets: tuple[str, ...]


BASES: tuple[Base, ...] = (
    Base(
        "minilm",
        "all-MiniLM-L6-v2 (22 million parameters)",
        tokens=48,
        train=240,
        calibration=4,
        test=20,
        trainings=(Training("full", 100, 2e-4), Training("lora", 80, 2e-3)),
        targets=("query", "key", "value", "dense"),
    ),
    Base(
        "smollm2",
        "SmolLM2-135M-Instruct",
        tokens=48,
        train=240,
        calibration=3,
        test=10,
        trainings=(Training("full", 40, 2e-4), Training("lora", 40, 3e-3)),
        targets=("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
    ),
)
