"""Tiny random models for merges of models trained apart, reordered copies of them, and batches."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import torch

from hubmerge.symmetry import Kind, Monomial, SymmetrySpec, random_element, spec_of, transform
from hubmerge.symmetry.verify import drawn_anew

Batch = dict[str, torch.Tensor]

TEXT = {
    "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 20,
    "max_position_embeddings": 32, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
}  # fmt: skip
PICTURE = {
    "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4, "image_size": 8,
    "patch_size": 4,
}  # fmt: skip
RESNET = {"embedding_size": 8, "hidden_sizes": [8, 12], "depths": [1, 2], "num_channels": 1, "num_labels": 3}
CONFIGS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "resnet basic": ("ResNetForImageClassification", "ResNetConfig", {**RESNET, "layer_type": "basic"}),
    "resnet bottleneck": ("ResNetForImageClassification", "ResNetConfig", {**RESNET, "layer_type": "bottleneck"}),
    "vit": ("ViTForImageClassification", "ViTConfig", {**PICTURE, "num_labels": 3}),
    "bert": ("BertForMaskedLM", "BertConfig", TEXT),
    "bert classifier": ("BertForSequenceClassification", "BertConfig", {**TEXT, "num_labels": 3}),
    "gpt2": (
        "GPT2LMHeadModel",
        "GPT2Config",
        {"n_embd": 16, "n_layer": 2, "n_head": 4, "vocab_size": 20, "n_positions": 32, "n_inner": 24},
    ),
    "llama": ("LlamaForCausalLM", "LlamaConfig", {**TEXT, "num_key_value_heads": 2}),
    "qwen2": ("Qwen2ForCausalLM", "Qwen2Config", {**TEXT, "num_key_value_heads": 2, "tie_word_embeddings": True}),
    "qwen3": ("Qwen3ForCausalLM", "Qwen3Config", {**TEXT, "num_key_value_heads": 2, "head_dim": 8}),
    "t5": (
        "T5ForConditionalGeneration",
        "T5Config",
        {
            "d_model": 16,
            "d_kv": 4,
            "d_ff": 24,
            "num_layers": 2,
            "num_heads": 4,
            "vocab_size": 20,
            "decoder_start_token_id": 0,
        },
    ),
    "clip": (
        "CLIPModel",
        "CLIPConfig",
        {"text_config": TEXT, "vision_config": PICTURE, "projection_dim": 12},
    ),
}


def model(name: str, seed: int, **changes: Any) -> Any:
    """A float32 model of this name with random weights; changes: to its config."""
    import transformers

    kind, config, fields = CONFIGS[name]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        empty = getattr(transformers, kind)(getattr(transformers, config)(**{**fields, **changes}))
    return drawn_anew(empty, seed).float()


def batches(name: str, count: int = 4, size: int = 12, seed: int = 7) -> list[Batch]:
    """Random data that the model of this name takes; a batch has `size` samples."""
    random = torch.Generator().manual_seed(seed)
    return [_batch(name, size, random) for _ in range(count)]


def _batch(name: str, size: int, random: torch.Generator) -> Batch:
    if name.startswith("resnet"):
        return {"pixel_values": torch.randn(size, 1, 32, 32, generator=random)}
    images = {"pixel_values": torch.randn(size, 3, 8, 8, generator=random)}
    if name == "vit":
        return images
    texts = {"input_ids": torch.randint(3, 20, (size, 7), generator=random)}
    if name == "t5":
        return {**texts, "decoder_input_ids": torch.randint(3, 20, (size, 5), generator=random)}
    return {**texts, **images} if name == "clip" else texts


def reordered(
    own: Any, seed: int, *, inside: bool = True, but: Collection[str] = ()
) -> tuple[Any, dict[str, Monomial]]:
    """A copy that computes the same with its units in another order and of other signs, and what was done to it.

    inside: also the features of heads, where these may be mixed.  but: groups, or their rows, that keep their order.
    """
    import copy

    spec = spec_of(own)
    element = _element(spec, seed, inside=inside, but=set(but))
    other = copy.deepcopy(own)
    other.load_state_dict(transform(spec, own.state_dict(), element))
    return other, element


def _element(spec: SymmetrySpec, seed: int, *, inside: bool, but: set[str]) -> dict[str, Monomial]:
    found = {
        name: Monomial(part.order, np.sign(part.factor))
        for name, part in random_element(spec, seed).items()
        if isinstance(part, Monomial) and spec.groups[name].kind.permutes and not {name, spec.groups[name].row} & but
    }
    random = np.random.default_rng(seed)
    for name, group in spec.groups.items():
        is_left = {name, group.row} & but
        if inside and not is_left and group.kind is Kind.INVERTIBLE and group.outer is not None:
            orders = np.stack([random.permutation(group.size) for _ in range(spec.groups[group.outer].size)])
            found[name] = Monomial(orders, np.ones(orders.shape))
    return found


def logits(own: Any, batch: Batch) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = own(**batch).logits
    return found
