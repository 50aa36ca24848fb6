"""config.json in any of its dialects -> `Architecture`: the fields that decide what can be merged with what.

Hard fields decide the tensors' shapes and how they are used; soft fields change what a model computes, or its
vocabulary, without being part of its body.  transformers 5 writes ``dtype`` and ``rope_parameters``, 4.x wrote
``torch_dtype``, ``rope_theta`` and ``rope_scaling``; multimodal models keep theirs in ``text_config``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, TypeGuard

from pydantic import BaseModel, ConfigDict

from zoo_index.plain import Json

__all__ = ["Architecture", "FieldDifference", "compare_architectures", "read_architecture"]


class Architecture(BaseModel):
    """Hard and soft fields of one config by their normalised names, in a fixed order; a field not stated is absent."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    hard: Mapping[str, Json] = {}
    soft: Mapping[str, Json] = {}


class FieldDifference(BaseModel):
    """One field with its two values; `hard` as in `Architecture`.  Prints as ``hidden_size 64 vs 128``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    field: str
    left: Json
    right: Json
    hard: bool

    def __str__(self) -> str:
        return f"{self.field} {_short(self.left)} vs {_short(self.right)}"


# normalised name: the names it has in configs, the first that is stated counts
_SIZES = {
    "hidden_size": ("hidden_size", "n_embd", "d_model", "dim", "embed_dim"),
    "num_hidden_layers": ("num_hidden_layers", "n_layer", "n_layers", "encoder_layers", "num_layers"),
    "num_decoder_layers": ("decoder_layers", "num_decoder_layers"),
    "num_attention_heads": ("num_attention_heads", "n_head", "n_heads", "encoder_attention_heads", "num_heads"),
    "num_key_value_heads": ("num_key_value_heads", "num_kv_heads", "n_head_kv"),
    "head_dim": ("head_dim", "d_kv"),
    "intermediate_size": ("intermediate_size", "n_inner", "d_ff", "ffn_dim", "encoder_ffn_dim", "hidden_dim"),
    "decoder_ffn_dim": ("decoder_ffn_dim",),
    "num_experts": ("num_local_experts", "num_experts", "n_routed_experts"),
    "num_experts_per_tok": ("num_experts_per_tok",),
    "moe_intermediate_size": ("moe_intermediate_size",),
    "n_shared_experts": ("n_shared_experts",),
    "embedding_size": ("embedding_size",),
    "hidden_sizes": ("hidden_sizes",),
    "depths": ("depths",),
}
_KINDS = {
    "layer_types": ("layer_types",),
    "layer_type": ("layer_type",),
    "downsample_in_first_stage": ("downsample_in_first_stage",),
    "downsample_in_bottleneck": ("downsample_in_bottleneck",),
    "num_channels": ("num_channels",),
    "patch_size": ("patch_size",),
    "image_size": ("image_size",),
    "attention_bias": ("attention_bias", "qkv_bias"),
    "mlp_bias": ("mlp_bias",),
    "is_encoder_decoder": ("is_encoder_decoder",),
}
_SOFT = {
    "vocab_size": ("vocab_size",),
    "type_vocab_size": ("type_vocab_size",),
    "relative_attention_num_buckets": ("relative_attention_num_buckets",),
    "relative_attention_max_distance": ("relative_attention_max_distance",),
    "tie_word_embeddings": ("tie_word_embeddings",),
    "max_position_embeddings": ("max_position_embeddings", "n_positions", "max_seq_len"),
    "sliding_window": ("sliding_window",),
    "norm_eps": ("rms_norm_eps", "layer_norm_eps", "layer_norm_epsilon", "norm_eps", "norm_epsilon"),
    "activation": ("hidden_act", "hidden_activation", "activation_function", "activation", "dense_act_fn"),
    "scale_embedding": ("scale_embedding",),
    "bos_token_id": ("bos_token_id",),
    "eos_token_id": ("eos_token_id",),
    "pad_token_id": ("pad_token_id",),
}
_SHARED = {"projection_dim": ("projection_dim",)}
"""Soft too, and of a model of two towers as the whole states it: what its towers state of it is not read."""
_TOWERS = ("vision_config", "audio_config")
_MAX_LABELS = 200


def read_architecture(config: Mapping[str, Any]) -> Architecture:
    """The fields of one config.json, as `zoo_index.plain.plain` gives it.  Malformed fields are left out, never an error."""
    text = _object(config.get("text_config"))
    body = {**config, **text}
    hard: dict[str, Json] = {}
    if isinstance(config.get("model_type"), str):
        hard["model_type"] = config["model_type"]
    architectures = config.get("architectures")
    if isinstance(architectures, list) and architectures:
        hard["architectures"] = [str(name) for name in architectures]
    hard |= _sizes(body) | _stated(body, _KINDS)
    if any("Backbone" in str(name) for name in hard.get("architectures") or ()):  # type: ignore[union-attr]  # a list
        hard |= _stated(config, {"out_indices": ("out_indices",)})
    labels = _labels(config)
    if labels is not None:
        hard["num_labels"] = len(labels)
    for tower in _TOWERS:
        inner = _object(config.get(tower))
        hard |= {f"{tower}.{name}": value for name, value in (_sizes(inner) | _stated(inner, _KINDS)).items()}
    soft = _stated(body, _SOFT) | _stated(config, _SHARED) | _rope(body)
    dtype = next((body[name] for name in ("dtype", "torch_dtype") if isinstance(body.get(name), str)), None)
    if dtype is not None:
        soft["dtype"] = dtype.removeprefix("torch.")
    if labels and labels != [f"LABEL_{i}" for i in range(len(labels))]:
        digest = hashlib.sha256(json.dumps(labels).encode()).hexdigest()
        soft["labels"] = list(labels) if len(labels) <= _MAX_LABELS else f"sha256:{digest}"
    return Architecture(hard=hard, soft=soft)


def compare_architectures(left: Architecture, right: Architecture) -> tuple[FieldDifference, ...]:
    """Every field that both state and state differently, hard fields first, in the order of `Architecture`."""
    return tuple(
        FieldDifference(field=field, left=a[field], right=b[field], hard=hard)
        for hard, a, b in ((True, left.hard, right.hard), (False, left.soft, right.soft))
        for field in a
        if field in b and a[field] != b[field]
    )


def _stated(config: Mapping[str, Any], names: Mapping[str, tuple[str, ...]]) -> dict[str, Json]:
    found: dict[str, Json] = {}
    for field, aliases in names.items():
        value = next((config[alias] for alias in aliases if config.get(alias) is not None), None)
        if value is not None:
            found[field] = value
    return found


def _sizes(config: Mapping[str, Any]) -> dict[str, Json]:
    stated = _stated(config, _SIZES)
    heads, hidden = stated.get("num_attention_heads"), stated.get("hidden_size")
    if _is_count(config.get("n_embd")) and ("n_inner" in config or config.get("model_type") == "gpt2"):
        stated.setdefault("intermediate_size", 4 * config["n_embd"])  # GPT-2 and its kin write null for it, or nothing
    if _is_count(heads):
        stated.setdefault("num_key_value_heads", 1 if config.get("multi_query") is True else heads)
        if _is_count(hidden) and hidden % heads == 0:
            stated.setdefault("head_dim", hidden // heads)
    return {field: stated[field] for field in _SIZES if field in stated}


def _is_count(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _labels(config: Mapping[str, Any]) -> list[str] | None:
    """The class names in order, for classifiers only: other configs carry labels that no tensor belongs to."""
    architectures = config.get("architectures")
    if not isinstance(architectures, list) or not any("Classification" in str(name) for name in architectures):
        return None
    names = _object(config.get("id2label"))
    if names and all(key.isdecimal() and len(key) < 10 for key in names):
        return [str(names[key]) for key in sorted(names, key=int)]
    count = config.get("num_labels")
    # transformers leaves two labels, its default, unwritten
    return [f"LABEL_{i}" for i in range(min(count, 100_000) if _is_count(count) else 2)]


def _rope(config: Mapping[str, Any]) -> dict[str, Json]:
    """rope_theta, rope_type and rope_scaling (the rest), from either dialect; per kind of layer where they differ."""
    new = _object(config.get("rope_parameters"))
    if new and all(isinstance(part, dict) for part in new.values()):
        parts = {kind: _rope_of(part, config) for kind, part in sorted(new.items())}
        if all(part == next(iter(parts.values())) for part in parts.values()):
            return next(iter(parts.values()))
        fields = ("rope_theta", "rope_type", "rope_scaling")
        split = {field: {kind: part[field] for kind, part in parts.items() if field in part} for field in fields}
        return {field: value for field, value in split.items() if value}
    old = _object(config.get("rope_scaling"))
    whole = _rope_of({**old, **new}, config)
    local = config.get("rope_local_base_freq")
    if local is None or not whole:
        return whole
    return {**whole, "rope_theta": {"full_attention": whole.get("rope_theta"), "sliding_attention": local}}


def _rope_of(part: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Json]:
    rest = dict(part)
    theta = rest.pop("rope_theta", None) or config.get("rope_theta") or config.get("rotary_emb_base")
    old_type = rest.pop("type", None)
    kind = rest.pop("rope_type", None) or old_type
    share = rest.pop("partial_rotary_factor", None) or config.get("partial_rotary_factor") or config.get("rotary_pct")
    if theta is None and kind is None:
        return {}
    found: dict[str, Json] = {"rope_theta": theta, "rope_type": kind or "default"}
    if share not in (None, 1, 1.0):
        rest["partial_rotary_factor"] = share
    if rest:
        found["rope_scaling"] = {key: rest[key] for key in sorted(rest)}
    return {field: value for field, value in found.items() if value is not None}


def _short(value: Json) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:59] + "…"
