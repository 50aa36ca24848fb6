"""Three small stacks of layers, and recipes that slice them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from zoo import random_values, read_model, write_model

__all__ = ["WIDTH", "config", "folder", "sliced", "source", "tensors", "three_models_in"]

WIDTH = 4


def tensors(seed: int, layers: int, **more: np.ndarray) -> dict[str, np.ndarray]:
    """A small stack of layers with an embedding before it, a norm and a head after it."""
    shapes = {"model.embed_tokens.weight": (6, WIDTH), "model.norm.weight": (WIDTH,), "lm_head.weight": (6, WIDTH)}
    for i in range(layers):
        shapes |= {f"model.layers.{i}.mlp.up.weight": (WIDTH, WIDTH), f"model.layers.{i}.norm.weight": (WIDTH,)}
    return {name: random_values(shape, 100 * seed + k) for k, (name, shape) in enumerate(shapes.items())} | more


def config(layers: int, **more: Any) -> dict[str, Any]:
    return {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "num_hidden_layers": layers,
            "tie_word_embeddings": False, **more}  # fmt: skip


def three_models_in(place: Path) -> None:
    """a with 4 layers, b with 3, c with 4."""
    for seed, (name, layers) in enumerate({"a": 4, "b": 3, "c": 4}.items()):
        write_model(place / name, tensors(seed, layers), config=config(layers))


def source(model: str, first: int, after: int, **parameters: Any) -> dict[str, Any]:
    row: dict[str, Any] = {"model": f"./{model}", "layer_range": [first, after]}
    return {**row, "parameters": parameters} if parameters else row


def sliced(method: str, *slices: list[dict[str, Any]] | dict[str, Any], **rest: Any) -> dict[str, Any]:
    rows = [{"sources": part} if isinstance(part, list) else part for part in slices]
    return {"merge_method": method, "slices": rows, **rest}


def folder(name: str) -> dict[str, np.ndarray]:
    return read_model(Path(name))
