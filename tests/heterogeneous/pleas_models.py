"""Tiny random models on disk and recipes that put them together: ResNets of 2 stages on 16 by 16 pixels, and a few others."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

import hubmerge
from hubmerge.heterogeneous.plan_types import AssemblyPlan

SIDE = 16


def resnet(folder: Path, seed: int, labels: Sequence[str], widths: Sequence[int] = (4, 6), **config: Any) -> Path:
    """A ResNet of one basic block a stage, its stem as wide as the first stage; its BatchNorms have statistics."""
    own = {
        "embedding_size": widths[0],
        "hidden_sizes": list(widths),
        "depths": [1, 1],
        "layer_type": "basic",
        "num_channels": 1,
    }
    return saved("ResNet", "ForImageClassification", folder, seed, {**own, **config}, labels)


def vit(folder: Path, seed: int, labels: Sequence[str], **config: Any) -> Path:
    own = {
        "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": SIDE,
        "patch_size": 8, "num_channels": 1,
    }  # fmt: skip
    return saved("ViT", "ForImageClassification", folder, seed, {**own, **config}, labels)


def bert(folder: Path, seed: int, words: Sequence[str]) -> Path:
    """A language model of as many words, with its tokenizer."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token=words[0]))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    own = {
        "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 1, "num_attention_heads": 2,
        "vocab_size": len(words), "max_position_embeddings": 8,
    }  # fmt: skip
    saved("Bert", "ForMaskedLM", folder, seed, own, ())
    (folder / "tokenizer.json").write_text(tokenizer.to_str())
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"}))
    return folder


def saved(family: str, head: str, folder: Path, seed: int, config: dict[str, Any], labels: Sequence[str]) -> Path:
    names = (
        {"id2label": dict(enumerate(labels)), "label2id": {name: i for i, name in enumerate(labels)}} if labels else {}
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = getattr(transformers, family + head)(getattr(transformers, f"{family}Config")(**config, **names))
        for name, values in model.named_buffers():
            if name.endswith("running_mean"):
                values.normal_(std=0.1)
    model.save_pretrained(folder)
    return folder


def with_words(folder: Path, seed: int, words: list[str], **sizes: int) -> Path:
    """A Llama with a tokenizer of whole words."""
    from tokenizers import Tokenizer, models

    own = {
        "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": len(words),
        "head_dim": 4, "num_key_value_heads": 1, "tie_word_embeddings": False, "bos_token_id": 1, "eos_token_id": 2,
        **sizes,
    }  # fmt: skip
    saved("Llama", "ForCausalLM", folder, seed, own, ())
    Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token=words[0])).save(
        str(folder / "tokenizer.json")
    )
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"}))
    return folder


def images(place: Path, count: int = 8, channels: int = 1) -> Path:
    """``pixel_values`` of noise."""
    values = np.random.default_rng(0).standard_normal((count, channels, SIDE, SIDE)).astype(np.float32)
    np.savez(place / "images.npz", pixel_values=values)
    return place / "images.npz"


def pleas(*models: str, **changes: Any) -> dict[str, Any]:
    """A recipe with 8 images; a key of None is left out."""
    given = {
        "merge_method": "pleas",
        "models": [{"model": model} for model in models or ("./low", "./high")],
        "calibration": {"data": "./images.npz", "samples": 8},
        **changes,
    }
    return {key: value for key, value in given.items() if value is not None}


def planned(*models: str, **changes: Any) -> AssemblyPlan:
    """The plan of that recipe."""
    plan = hubmerge.build_plan(pleas(*models, **changes))
    assert isinstance(plan, AssemblyPlan)
    return plan


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def zoo(place: Path) -> None:
    """low: 3 classes; high: 2 others; wide: the classes of high, half as wide again; deep: a block more."""
    resnet(place / "low", 0, ("a", "b", "c"))
    resnet(place / "high", 1, ("d", "e"))
    resnet(place / "wide", 2, ("d", "e"), (6, 9))
    resnet(place / "deep", 3, ("d", "e"), depths=[1, 2])
    images(place)
