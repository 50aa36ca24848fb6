"""A merged folder in few numbers: what is written down of mergekit's merges, and read off hubmerge's.

A record holds for every tensor its type, shape, sum, sum of magnitudes and a fixed sample of entries; the fields of the config
that a merge decides; the tokens; what the chat template makes of a conversation.  Rows that stand for tokens are put in the
order of the tokens' text, since two tools may number the tokens of a union differently.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import zoo
from jinja2.sandbox import ImmutableSandboxedEnvironment

__all__ = ["decoded", "places", "read_tensors", "record", "vocabulary"]

SAMPLES = 32
"""Entries of a tensor that are written down; the sums watch over the others."""
FIELDS = (
    "architectures", "model_type", "num_hidden_layers", "n_layer", "vocab_size", "tie_word_embeddings", "hidden_size", "n_embd",
)  # fmt: skip
TALK = tuple(
    {"role": role, "content": text} for role, text in (("user", "a b"), ("assistant", "c"), ("user", "d\n e "))
)
TABLES = ("embed_tokens.weight", "lm_head.weight", "wte.weight", "word_embeddings.weight")


def record(folder: Path, base: Path | None = None) -> dict[str, Any]:
    """What is kept of a merge; with `base`, also how many entries differ from it and by how much in all."""
    tokens = vocabulary(folder)
    origin = read_tensors(base, tokens) if base is not None else {}
    config = json.loads((folder / "config.json").read_text())
    return {
        "config": {field: config[field] for field in FIELDS if field in config},
        "tokens": sorted(tokens),
        "conversation": conversation(folder),
        "tensors": {
            name: _summary(values, stored, origin.get(name, (None, ""))[0])
            for name, (values, stored) in sorted(read_tensors(folder, tokens).items())
        },
    }


def read_tensors(folder: Path, tokens: Mapping[str, int]) -> dict[str, tuple[np.ndarray, str]]:
    """Every tensor as numbers, with the type it is stored in; tables of tokens in the order of their text."""
    found = {}
    for name, stored in zoo.read_model(folder).items():
        values = zoo.numbers(stored)
        if name.endswith(TABLES) and tokens:
            order = [tokens[token] for token in sorted(tokens)]
            rest = sorted(set(range(len(values))) - set(order))
            values = values[[*order, *rest]]
        found[name] = (values, zoo.STORED[stored.dtype.name])
    return found


def vocabulary(folder: Path) -> dict[str, int]:
    """Token -> id of a tokenizer.json, without loading it."""
    path = folder / "tokenizer.json"
    if not path.is_file():
        return {}
    content = json.loads(path.read_text())
    return {**content["model"]["vocab"], **{row["content"]: row["id"] for row in content["added_tokens"]}}


def conversation(folder: Path) -> str | None:
    """What the chat template makes of a conversation, with jinja's settings of transformers; None without a template."""
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text()) if path.is_file() else {}
    separate = folder / "chat_template.jinja"
    template = separate.read_text() if separate.is_file() else settings.get("chat_template")
    if template is None:
        return None
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    tokens = {name: settings[name] for name in ("bos_token", "eos_token")}
    return environment.from_string(template).render(messages=TALK, add_generation_prompt=True, **tokens)


def places(size: int) -> np.ndarray:
    """The entries of a tensor of `size` entries that are written down."""
    if size <= SAMPLES:
        return np.arange(size)
    return np.sort(np.random.default_rng(size).choice(size, SAMPLES, replace=False))


def decoded(text: str) -> np.ndarray:
    """The sampled entries of a record."""
    return np.frombuffer(base64.b64decode(text), "<f4")


def _summary(values: np.ndarray, stored: str, origin: np.ndarray | None) -> dict[str, Any]:
    exact, flat = values.astype(np.float64), values.reshape(-1)
    row: dict[str, Any] = {
        "dtype": stored,
        "shape": list(values.shape),
        "sum": float(exact.sum()),
        "l1": float(np.abs(exact).sum()),
        "values": base64.b64encode(flat[places(flat.size)].astype("<f4").tobytes()).decode(),
    }
    if origin is not None:
        change = exact - origin.astype(np.float64)
        row |= {"changed": int(np.count_nonzero(change)), "change": float(np.abs(change).sum())}
    return row
