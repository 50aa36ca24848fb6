"""Random adapters in memory and on disk, and a dense, independent form of KnOTS."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

Change = dict[str, np.ndarray]
SHAPES = {"up": (12, 8), "down": (8, 12), "q": (8, 8)}
"""Modules with the (out, in) of their weights."""


def factors(seed: int, rank: int, modules: Sequence[str] = tuple(SHAPES)) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    drawn = np.random.default_rng(seed)
    return {
        name: (
            drawn.standard_normal((rank, SHAPES[name][1])).astype(np.float32),
            drawn.standard_normal((SHAPES[name][0], rank)).astype(np.float32),
        )
        for name in modules
    }


def dense(adapter: Mapping[str, tuple[Any, Any]]) -> Change:
    return {name: np.asarray(b, np.float64) @ np.asarray(a, np.float64) for name, (a, b) in adapter.items()}


def furthest(left: Change, right: Change) -> float:
    """The largest difference, over the largest entry."""
    assert left.keys() == right.keys()
    return max(float(np.abs(left[name] - right[name]).max() / np.abs(right[name]).max()) for name in left)


def knots_ties(changes: Sequence[Change], share: float) -> Change:
    """KnOTS with TIES as its authors' code has it: dense changes, one threshold for a whole adapter, mean over those that agree."""
    names = sorted(changes[0])
    left, own = {}, [[] for _ in changes]
    for name in names:
        u, values, v = np.linalg.svd(np.concatenate([change[name] for change in changes], 1), full_matrices=False)
        kept = int((values > 1e-5).sum())
        left[name] = u[:, :kept]
        for place, part in enumerate(np.split(values[:kept, None] * v[:kept], len(changes), axis=1)):
            own[place].append(part)
    flat = np.stack([np.concatenate([part.ravel() for part in parts]) for parts in own])
    cut = max(1, flat.shape[1] - int(flat.shape[1] * share))  # as kthvalue counts: the smallest is the first
    thresholds = np.sort(np.abs(flat), axis=1)[:, cut - 1]
    kept_entries = np.where(np.abs(flat) >= thresholds[:, None], flat, 0)
    agree = (np.sign(kept_entries) == np.sign(kept_entries.sum(0))) & (kept_entries != 0)
    merged = np.where(agree, kept_entries, 0).sum(0) / np.maximum(agree.sum(0), 1)
    found, start = {}, 0
    for name, part in zip(names, own[0], strict=True):
        found[name] = left[name] @ merged[start : start + part.size].reshape(part.shape)
        start += part.size
    return found


def llama() -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "vocab_size": 20}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return LlamaForCausalLM(LlamaConfig(**sizes, num_attention_heads=4, num_key_value_heads=2))


def saved_adapter(base: Path, folder: Path, seed: int, model: Any = None, **config: Any) -> Path:
    """A random adapter of the model that is saved in `base`."""
    from peft import LoraConfig, get_peft_model

    own = {"r": 4, "lora_alpha": 6, "target_modules": ["q_proj", "down_proj"], "init_lora_weights": False, **config}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        adapted = get_peft_model(model if model is not None else loaded(base), LoraConfig(**own))
        with torch.no_grad():
            for name, values in adapted.named_parameters():
                if "lora_" in name:
                    values.normal_(std=0.3)
                elif values.requires_grad:  # saved modules and biases
                    values.add_(torch.randn_like(values), alpha=0.3)
        adapted.save_pretrained(folder)
    return folder


def loaded(base: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(base)
