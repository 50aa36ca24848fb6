"""Small adapters and bases written by hand, with no library of models at work."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

PREFIX = "base_model.model."


def write_base(folder: Path, tensors: Mapping[str, Any]) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "toy"}))
    save_file({name: np.asarray(values, np.float32) for name, values in tensors.items()}, folder / "model.safetensors")
    return folder


def write_lora(folder: Path, modules: Mapping[str, tuple[Any, Any]], **config: Any) -> Path:
    """An adapter with modules of (A, B), scale 1 unless `config` says otherwise; "base" is what it was trained on."""
    folder.mkdir()
    tensors = {}
    for module, (a, b) in modules.items():
        tensors[f"{PREFIX}{module}.lora_A.weight"] = np.asarray(a, np.float32)
        tensors[f"{PREFIX}{module}.lora_B.weight"] = np.asarray(b, np.float32)
    rank = max(len(a) for a, _ in modules.values())
    own = {"peft_type": "LORA", "r": rank, "lora_alpha": rank, "base_model_name_or_path": "org/base", **config}
    (folder / "adapter_config.json").write_text(json.dumps(own))
    save_file(tensors, folder / "adapter_model.safetensors")
    return folder


def read_lora(folder: Path) -> dict[str, tuple[Any, Any]]:
    """Modules with (A, B); what `hubmerge` writes has scale 1."""
    tensors = load_file(folder / "adapter_model.safetensors")
    names = sorted(name.removeprefix(PREFIX).removesuffix(".lora_A.weight") for name in tensors if ".lora_A." in name)
    return {name: tuple(tensors[f"{PREFIX}{name}.lora_{kind}.weight"] for kind in "AB") for name in names}
