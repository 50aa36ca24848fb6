"""Tiny language models on the test Hub, and merges of them: what the tests of publishing and loading start from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from hub.server import HubServer
from transformers import LlamaConfig, LlamaForCausalLM

from cards import write_card
from hubmerge import merge

__all__ = ["RECIPE", "llama", "merge_on_hub", "upload_parents"]

RECIPE: dict[str, Any] = {
    "merge_method": "task_arithmetic",
    "base_model": "acme/base",
    "models": [
        {"model": "acme/poet", "parameters": {"weight": 0.5}},
        {"model": "acme/clerk", "parameters": {"weight": 0.25}},
    ],
}


def llama(seed: int) -> LlamaForCausalLM:
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    torch.manual_seed(seed)
    return LlamaForCausalLM(LlamaConfig(**sizes, vocab_size=20, num_key_value_heads=2))


def upload_parents(hub: HubServer, place: Path, **edits: Any) -> None:
    """acme/base, acme/poet and acme/clerk, under the MIT licence, with generation configs and something like a tokenizer."""
    for seed, name in enumerate(("base", "poet", "clerk")):
        folder = place / "parents" / name
        llama(seed).save_pretrained(folder)
        (folder / "README.md").write_text("---\nlicense: mit\n---\n# A parent\n")
        (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
        hub.add(f"acme/{name}", folder, **edits)


def merge_on_hub(hub: HubServer, place: Path, recipe: dict[str, Any] | None = None) -> Path:
    """A finished merge with its card, whose parents are on the Hub."""
    upload_parents(hub, place)
    merge(recipe or RECIPE, place / "out")
    write_card(place / "out")
    return place / "out"
