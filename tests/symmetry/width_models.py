"""Configs of tiny models, with the shapes of their tensors worked out by hand and not from the tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Shapes = dict[str, tuple[int, ...]]

LABELS = {"0": "cat", "1": "dog", "2": "hen"}
RESNET: dict[str, Any] = {
    "model_type": "resnet", "architectures": ["ResNetForImageClassification"], "embedding_size": 4, "hidden_sizes": [4, 8],
    "depths": [1, 1], "layer_type": "basic", "num_channels": 1, "id2label": LABELS,
}  # fmt: skip
BOTTLENECK: dict[str, Any] = {**RESNET, "layer_type": "bottleneck", "embedding_size": 8, "hidden_sizes": [8, 16]}
VIT: dict[str, Any] = {
    "model_type": "vit", "architectures": ["ViTForImageClassification"], "hidden_size": 8, "intermediate_size": 12,
    "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 4, "patch_size": 2, "num_channels": 1, "id2label": LABELS,
}  # fmt: skip
BERT: dict[str, Any] = {
    "model_type": "bert", "architectures": ["BertForMaskedLM"], "hidden_size": 8, "intermediate_size": 12,
    "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 9, "max_position_embeddings": 5,
}  # fmt: skip
MISTRAL: dict[str, Any] = {
    "model_type": "mistral", "architectures": ["MistralForCausalLM"], "hidden_size": 4, "intermediate_size": 4,
    "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 2, "vocab_size": 3,
}  # fmt: skip
LLAMA: dict[str, Any] = {
    **MISTRAL, "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 12, "intermediate_size": 20,
    "num_attention_heads": 6, "num_key_value_heads": 3, "vocab_size": 9,
}  # fmt: skip


def _convolved(name: str, out: int, inner: int, taps: int) -> Shapes:
    """A convolution and its BatchNorm."""
    norm = {f"{name}.normalization.{each}": (out,) for each in ("weight", "bias", "running_mean", "running_var")}
    kernel = {f"{name}.convolution.weight": (out, inner, taps, taps)}
    return {**kernel, **norm, f"{name}.normalization.num_batches_tracked": ()}


def resnet_shapes(embedding: int, hidden: Sequence[int], *, apart: bool = False, bottleneck: bool = False) -> Shapes:
    """One block a stage.  apart: the first stage has a shortcut of its own."""
    shapes = _convolved("resnet.embedder.embedder", embedding, 1, 7)
    inner = embedding
    for stage, out in enumerate(hidden):
        block = f"resnet.encoder.stages.{stage}.layers.0"
        if stage or apart:
            shapes |= _convolved(f"{block}.shortcut", out, inner, 1)
        if bottleneck:
            shapes |= _convolved(f"{block}.layer.0", out // 4, inner, 1)
            shapes |= _convolved(f"{block}.layer.1", out // 4, out // 4, 3)
            shapes |= _convolved(f"{block}.layer.2", out, out // 4, 1)
        else:
            shapes |= _convolved(f"{block}.layer.0", out, inner, 3) | _convolved(f"{block}.layer.1", out, out, 3)
        inner = out
    return {**shapes, "classifier.1.weight": (3, inner), "classifier.1.bias": (3,)}


def _linear(name: str, out: int, inner: int) -> Shapes:
    return {f"{name}.weight": (out, inner), f"{name}.bias": (out,)}


def _normed(name: str, size: int) -> Shapes:
    return {f"{name}.weight": (size,), f"{name}.bias": (size,)}


def vit_shapes(inner: int = 12) -> Shapes:
    """Of `VIT`, with a feed-forward layer of `inner` units."""
    layer = "vit.encoder.layer.0"
    return {
        "vit.embeddings.cls_token": (1, 1, 8),
        "vit.embeddings.position_embeddings": (1, 5, 8),
        "vit.embeddings.patch_embeddings.projection.weight": (8, 1, 2, 2),
        "vit.embeddings.patch_embeddings.projection.bias": (8,),
        **_normed(f"{layer}.layernorm_before", 8),
        **_linear(f"{layer}.attention.attention.query", 8, 8),
        **_linear(f"{layer}.attention.attention.key", 8, 8),
        **_linear(f"{layer}.attention.attention.value", 8, 8),
        **_linear(f"{layer}.attention.output.dense", 8, 8),
        **_normed(f"{layer}.layernorm_after", 8),
        **_linear(f"{layer}.intermediate.dense", inner, 8),
        **_linear(f"{layer}.output.dense", 8, inner),
        **_normed("vit.layernorm", 8),
        **_linear("classifier", 3, 8),
    }


def bert_shapes(inner: int = 12) -> Shapes:
    """Of `BERT`, whose head for masked words is tied to its embedding, with a feed-forward layer of `inner` units."""
    layer = "bert.encoder.layer.0"
    return {
        "bert.embeddings.word_embeddings.weight": (9, 8),
        "bert.embeddings.position_embeddings.weight": (5, 8),
        "bert.embeddings.token_type_embeddings.weight": (2, 8),
        **_normed("bert.embeddings.LayerNorm", 8),
        **_linear(f"{layer}.attention.self.query", 8, 8),
        **_linear(f"{layer}.attention.self.key", 8, 8),
        **_linear(f"{layer}.attention.self.value", 8, 8),
        **_linear(f"{layer}.attention.output.dense", 8, 8),
        **_normed(f"{layer}.attention.output.LayerNorm", 8),
        **_linear(f"{layer}.intermediate.dense", inner, 8),
        **_linear(f"{layer}.output.dense", 8, inner),
        **_normed(f"{layer}.output.LayerNorm", 8),
        **_linear("cls.predictions.transform.dense", 8, 8),
        **_normed("cls.predictions.transform.LayerNorm", 8),
        "cls.predictions.bias": (9,),
    }


def llama_shapes(config: dict[str, Any]) -> Shapes:
    """Of a config with one layer and `head_dim` 2, as `LLAMA` and `MISTRAL`."""
    width, inner, tokens = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    queries, keys = 2 * config["num_attention_heads"], 2 * config["num_key_value_heads"]
    layer = {
        "input_layernorm": (width,), "self_attn.q_proj": (queries, width), "self_attn.k_proj": (keys, width),
        "self_attn.v_proj": (keys, width), "self_attn.o_proj": (width, queries), "post_attention_layernorm": (width,),
        "mlp.gate_proj": (inner, width), "mlp.up_proj": (inner, width), "mlp.down_proj": (width, inner),
    }  # fmt: skip
    return {
        "model.embed_tokens.weight": (tokens, width),
        **{f"model.layers.0.{name}.weight": shape for name, shape in layer.items()},
        "model.norm.weight": (width,),
        "lm_head.weight": (tokens, width),
    }
