"""Tiny language models whose rows tell whose they are, and tokenizers for them, written as data."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer
from zoo import CONFIG, numbers, read_model, stored_as, write_model

__all__ = ["EMBED", "HEAD", "added", "rows_by_token", "word_model", "words"]

EMBED, HEAD = "model.embed_tokens.weight", "lm_head.weight"
COLUMNS = 3


def added(content: str, number: int, *, special: bool = True) -> dict[str, Any]:
    """An entry of added_tokens in a tokenizer.json."""
    flags = dict.fromkeys(["single_word", "lstrip", "rstrip", "normalized"], False)
    return {"id": number, "content": content, **flags, "special": special}


def words(tokens: Sequence[str], special: Sequence[str] = ()) -> dict[str, Any]:
    """A tokenizer.json of whole words, `special` ones matched first and with the last ids."""
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [added(token, len(tokens) + i) for i, token in enumerate(special)],
        "normalizer": None,
        "pre_tokenizer": {"type": "WhitespaceSplit"},
        "post_processor": None,
        "decoder": None,
        "model": {"type": "WordLevel", "vocab": {token: i for i, token in enumerate(tokens)}, "unk_token": "<unk>"},
    }


def word_model(
    folder: Path,
    tokens: Sequence[str] | None,
    start: float,
    *,
    special: Sequence[str] = (),
    rows: int | None = None,
    stored: str = "float32",
    tied: bool = False,
    config: Mapping[str, Any] | None = None,
    files: Mapping[str, str] | None = None,
    tensors: Mapping[str, np.ndarray] | None = None,
) -> Path:
    """A model whose row number i of the embeddings holds `start` + i, and of the head -(`start` + i), in every column.

    tokens: its vocabulary; None for no tokenizer.  rows: how many, default one for each token.
    """
    count = rows if rows is not None else len(tokens or ()) + len(special)
    values = np.repeat(start + np.arange(count, dtype=np.float32)[:, None], COLUMNS, axis=1)
    weights = {EMBED: stored_as(values, stored), "model.norm.weight": stored_as(np.ones(COLUMNS) * start, stored)}
    weights |= {} if tied else {HEAD: stored_as(-values, stored)}
    written = {} if tokens is None else {"tokenizer.json": json.dumps(words(tokens, special))}
    return write_model(
        folder,
        {**weights, **(tensors or {})},
        config={**CONFIG, "vocab_size": count, "tie_word_embeddings": tied, **(config or {})},
        files={**written, **(files or {})},
    )


def rows_by_token(folder: Path, name: str = EMBED) -> dict[str, float]:
    """Token -> the number that its row holds in every column, in the order of the ids, as the tokenizer has them."""
    ids = Tokenizer.from_file(str(folder / "tokenizer.json")).get_vocab(with_added_tokens=True)
    values = numbers(read_model(folder)[name])
    assert (values == values[:, :1]).all()
    return {token: float(values[number, 0]) for token, number in sorted(ids.items(), key=lambda pair: pair[1])}
