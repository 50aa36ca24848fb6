"""Texts for language models: code of Python's library and the prose of its language reference, cut into blocks of tokens."""

from __future__ import annotations

import sysconfig
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from benchmarks.heterogeneous.language_settings import BLOCK, CALIBRATION_BLOCKS, CODE, HELD_OUT_BLOCKS, PROBE_BLOCKS

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "SORTS",
    "Blocks",
    "Sort",
    "bits_per_byte",
    "blocks_of",
    "calibration_blocks",
    "cut",
    "divided",
    "evenly_spread",
    "probe_blocks",
]

Sort = Literal["code", "prose"]
SORTS: tuple[Sort, ...] = ("code", "prose")
_EVERY = 4
"""Of so many files, or topics, the first is held out."""


@dataclass(frozen=True)
class Blocks:
    """Of one sort: int64 of shape (n, length).  train: three files, or topics, of four.  held_out: of the others, evenly spread."""

    train: Tensor
    held_out: Tensor


def blocks_of(sort: Sort, tokenizer: Any) -> Blocks:
    """All texts of a sort, in the order of files or topics."""

    def in_blocks(texts: Sequence[str]) -> Tensor:
        return cut(tokenizer("\n\n".join(texts), return_attention_mask=False, verbose=False)["input_ids"])

    return divided(_code() if sort == "code" else _prose(), in_blocks, HELD_OUT_BLOCKS)


def divided(texts: Sequence[str], in_blocks: Callable[[Sequence[str]], Tensor], number: int) -> Blocks:
    """The texts of a sort, one for each file or topic.  in_blocks: cuts several.  number: of the blocks that are held out."""
    train = [text for place, text in enumerate(texts) if place % _EVERY]
    return Blocks(in_blocks(train), evenly_spread(in_blocks(texts[::_EVERY]), number))


def evenly_spread(blocks: Tensor, number: int) -> Tensor:
    """So many of the blocks, from all over them."""
    import torch

    return blocks[torch.arange(number) * len(blocks) // number]


def cut(tokens: list[int], length: int = BLOCK) -> Tensor:
    """Whole blocks, one after the other; what is left at the end is dropped."""
    import torch

    number = len(tokens) // length
    return torch.tensor(tokens[: number * length]).reshape(number, length)


def calibration_blocks(blocks: Mapping[Sort, Blocks], seed: int) -> list[dict[str, Tensor]]:
    """Training texts to calibrate with: of either sort as many, one after the other, in batches of eight, drawn by `seed`."""
    return [{"input_ids": part} for part in _drawn(blocks, seed, 0, CALIBRATION_BLOCKS)]


def probe_blocks(blocks: Mapping[Sort, Blocks], seed: int) -> list[dict[str, Tensor]]:
    """Other training texts with labels, in the same order."""
    return [{"input_ids": part, "labels": part} for part in _drawn(blocks, seed, CALIBRATION_BLOCKS, PROBE_BLOCKS)]


def _drawn(blocks: Mapping[Sort, Blocks], seed: int, first: int, number: int) -> Sequence[Tensor]:
    """Of the training texts in an order by `seed` those from the `first` on, `number` of either sort."""
    import torch

    generator = np.random.default_rng(seed)
    orders = [torch.from_numpy(generator.permutation(len(each.train))) for each in blocks.values()]
    drawn = [each.train[order[first : first + number]] for each, order in zip(blocks.values(), orders, strict=True)]
    return torch.split(torch.stack(drawn, 1).flatten(0, 1), 8)


def bits_per_byte(model: Any, blocks: Tensor, tokenizer: Any) -> float:
    """What the model needs to tell every byte of the blocks but for their first tokens; tokens are those of a byte-level vocabulary."""
    import torch

    nats = 0.0
    with torch.inference_mode():
        for part in torch.split(blocks, 8):
            logits = model(input_ids=part).logits[:, :-1]
            nats += float(
                torch.nn.functional.cross_entropy(logits.flatten(0, 1), part[:, 1:].flatten(), reduction="sum")
            )
    said = sum(len(token) for token in tokenizer.convert_ids_to_tokens(blocks[:, 1:].flatten().tolist()))
    return nats / float(np.log(2)) / said


def _code() -> list[str]:
    folder = Path(sysconfig.get_path("stdlib"))
    return [path.read_text(encoding="utf-8") for name in CODE for path in sorted((folder / name).rglob("*.py"))]


def _prose() -> list[str]:
    from pydoc_data.topics import topics

    return [topics[name] for name in sorted(topics)]
