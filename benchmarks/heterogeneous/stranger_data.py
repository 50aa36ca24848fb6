"""Texts for tiny language models: code of Python's library and its comments and docstrings, character by character, in pieces."""

from __future__ import annotations

import sysconfig
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.heterogeneous.language_data import SORTS, Blocks, Sort, cut, divided
from benchmarks.heterogeneous.stranger_settings import CALIBRATION_PIECES, CHARACTERS, HELD_OUT_PIECES, PIECE
from benchmarks.heterogeneous.text_data import sorts
from benchmarks.heterogeneous.text_settings import PACKAGES

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["calibration_pieces", "held_out", "losses", "numbers", "pieces", "told_apart"]

_NUMBERS = {character: number for number, character in enumerate(CHARACTERS)}
_BATCH = 32


def told_apart(source: str) -> dict[Sort, str]:
    """The code of a file, a space between two tokens, and its prose, a line for each comment or docstring with single spaces."""
    parts: dict[Sort, list[str]] = {"code": [], "prose": []}
    for sort, text in sorts(source):
        if sort == "prose":
            parts["prose"].append(" ".join(text.split()))
        else:
            parts["code"].append(text)
    return {"code": " ".join(parts["code"]), "prose": "\n".join(parts["prose"])}


def numbers(text: str) -> list[int]:
    """Of the characters of the vocabulary; others are left out."""
    return [_NUMBERS[character] for character in text if character in _NUMBERS]


@cache
def pieces() -> Mapping[Sort, Blocks]:
    """All pieces of both sorts, int64 of shape (n, 64), in the order of files."""
    folder = Path(sysconfig.get_path("stdlib"))
    paths = [path for package in PACKAGES for path in sorted((folder / package).rglob("*.py"))]
    texts = [told_apart(path.read_text(encoding="utf-8")) for path in paths]
    return {sort: divided([each[sort] for each in texts], _cut, HELD_OUT_PIECES) for sort in SORTS}


def held_out() -> dict[Sort, Tensor]:
    """What the models are measured on."""
    return {sort: each.held_out for sort, each in pieces().items()}


def _cut(texts: Iterable[str]) -> Tensor:
    return cut(numbers("\n".join(texts)), PIECE)


def calibration_pieces(seed: int) -> list[dict[str, Tensor]]:
    """Training pieces, half of them code, half prose, drawn and mixed by `seed`, in batches of 32."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    drawn = [
        each.train[torch.randperm(len(each.train), generator=generator)[: CALIBRATION_PIECES // 2]]
        for each in pieces().values()
    ]
    order = torch.randperm(CALIBRATION_PIECES, generator=generator)
    return [{"input_ids": part} for part in torch.split(torch.cat(drawn)[order], _BATCH)]


def losses(models: tuple[Any, ...], texts: Mapping[Sort, Tensor]) -> dict[Sort, float]:
    """Nats per character of either sort, but for first ones; of several models those of the mean of their probabilities."""
    import torch

    found: dict[Sort, float] = {}
    with torch.inference_mode():
        for sort, asked in texts.items():
            logs = torch.stack([model(input_ids=asked).logits[:, :-1].log_softmax(-1) for model in models])
            log = logs.logsumexp(0) - torch.log(torch.tensor(float(len(models))))
            found[sort] = float(-log.gather(-1, asked[:, 1:, None]).double().mean())
    return found
