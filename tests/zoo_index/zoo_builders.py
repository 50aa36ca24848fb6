"""Small models written by hand, without torch: what the tests of zoo_index read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from zoo_index import LocalFolder, ModelRef, PinnedRef
from zoo_index.metadata import ModelRecord, read_record

NAMES = {"float32": "F32", "float16": "F16", "float64": "F64", "int64": "I64", "bool": "BOOL", "uint16": "BF16"}
"""numpy's types as safetensors names them; uint16 stands for the bits of bfloat16."""


def bfloat16(values: np.ndarray) -> np.ndarray:
    """The upper half of each float32, as safetensors stores bfloat16."""
    return (values.astype("<f4").view("<u4") >> 16).astype("<u2")


def header_of(tensors: Mapping[str, np.ndarray]) -> dict[str, Any]:
    entries: dict[str, Any] = {}
    offset = 0
    for name, values in tensors.items():
        end = offset + values.nbytes
        entries[name] = {"dtype": NAMES[str(values.dtype)], "shape": list(values.shape), "data_offsets": [offset, end]}
        offset = end
    return entries


def packed(entries: object, data: bytes = b"") -> bytes:
    """A safetensors file with this header, whatever it says, and this data."""
    raw = entries if isinstance(entries, bytes) else json.dumps(entries).encode()
    return len(raw).to_bytes(8, "little") + raw + data


def safetensors(tensors: Mapping[str, np.ndarray]) -> bytes:
    return packed(header_of(tensors), b"".join(values.tobytes() for values in tensors.values()))


def llama_config(**changes: Any) -> dict[str, Any]:
    config = {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": 8,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 4,
        "intermediate_size": 16,
        "vocab_size": 12,
        "tie_word_embeddings": False,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-6,
        "max_position_embeddings": 64,
        "rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"},
        "dtype": "float32",
    }
    return {key: value for key, value in {**config, **changes}.items() if value is not None}


def llama_tensors(config: Mapping[str, Any], seed: int = 0) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    width, inner, vocabulary = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    keys = config.get("num_key_value_heads", config["num_attention_heads"]) * (width // config["num_attention_heads"])
    shapes = {"model.embed_tokens.weight": (vocabulary, width), "model.norm.weight": (width,)}
    for layer in range(config["num_hidden_layers"]):
        at = f"model.layers.{layer}"
        shapes |= {f"{at}.input_layernorm.weight": (width,), f"{at}.post_attention_layernorm.weight": (width,)}
        shapes |= {f"{at}.self_attn.{name}_proj.weight": (width, width) for name in "qo"}
        shapes |= {f"{at}.self_attn.{name}_proj.weight": (keys, width) for name in "kv"}
        shapes |= {f"{at}.mlp.{name}_proj.weight": (inner, width) for name in ("gate", "up")}
        shapes |= {f"{at}.mlp.down_proj.weight": (width, inner)}
    if not config.get("tie_word_embeddings", True):
        shapes["lm_head.weight"] = (vocabulary, width)
    return {name: random.standard_normal(shape).astype("float32") for name, shape in sorted(shapes.items())}


def write_model(
    folder: Path,
    config: Mapping[str, Any] | None = None,
    tensors: Mapping[str, np.ndarray] | None = None,
    *,
    seed: int = 0,
    card: str | None = None,
    files: Mapping[str, object] | None = None,
) -> Path:
    """A model folder: a tiny Llama unless `config` and `tensors` say otherwise; `files` holds text, bytes or JSON."""
    folder.mkdir(parents=True, exist_ok=True)
    config = config if config is not None else llama_config()
    (folder / "config.json").write_text(json.dumps(config))
    weights = tensors if tensors is not None else llama_tensors(config, seed)
    (folder / "model.safetensors").write_bytes(safetensors(weights))
    if card is not None:
        (folder / "README.md").write_text(card)
    write_files(folder, files or {})
    return folder


def write_files(folder: Path, files: Mapping[str, object]) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        raw = content if isinstance(content, bytes | str) else json.dumps(content)
        path.write_bytes(raw if isinstance(raw, bytes) else raw.encode())


def write_adapter(folder: Path, base: str | None = "org/base", *, r: int = 2, seed: int = 0, **changes: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "peft_type": "LORA",
        "base_model_name_or_path": base,
        "r": r,
        "lora_alpha": 2 * r,
        "target_modules": ["v_proj", "q_proj"],
        "use_dora": False,
        "use_rslora": False,
        "revision": None,
        **changes,
    }
    (folder / "adapter_config.json").write_text(json.dumps(config))
    random = np.random.default_rng(seed)
    at = "base_model.model.model.layers.0.self_attn.q_proj"
    weights = {
        f"{at}.lora_A.weight": random.standard_normal((r, 8)).astype("float32"),
        f"{at}.lora_B.weight": np.zeros((8, r), "float32"),
    }
    (folder / "adapter_model.safetensors").write_bytes(safetensors(weights))
    return folder


def source_of(folder: Path) -> LocalFolder:
    return LocalFolder(folder, PinnedRef(ModelRef.of(str(folder))))


def record_of(folder: Path) -> ModelRecord:
    return read_record(source_of(folder))
