"""A merged adapter as PEFT's folder: adapter_model.safetensors, and an adapter_config.json that loads it with scale 1."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hubmerge.errors import PlanError
from hubmerge.lora.adapter import Adapter, Factors

__all__ = ["adapter_config", "write_adapter"]

_PREFIX = "base_model.model."
_OURS = ("r", "lora_alpha", "rank_pattern", "alpha_pattern", "use_rslora", "init_lora_weights", "inference_mode")


def write_adapter(out: Path, adapters: Sequence[Adapter], merged: Mapping[str, Factors]) -> None:
    """Write merged factors into the new folder `out`.

    adapters: those that were merged; the first that has a config gives what a config says beside the ranks.  Raises `PlanError` for a
    folder that holds something, and for adapters from memory alone, of which no config is known.
    """
    if out.exists() and any(out.iterdir()):
        raise PlanError("the folder holds something already", where=str(out), hint="name a new folder")
    config = adapter_config(adapters, merged)
    from safetensors.numpy import save_file

    embeddings = frozenset().union(*(adapter.embeddings for adapter in adapters))
    kernels = {module: kernel for adapter in adapters for module, kernel in adapter.kernels.items()}
    tensors: dict[str, Any] = {}
    for module, factors in merged.items():
        a, b = factors.a, factors.b * factors.scale
        if module in kernels:
            first, second = kernels[module]
            a, b = a.reshape(a.shape[0], *first), b.reshape(*b.shape, *second)
        kind, ending = ("lora_embedding_", "") if module in embeddings else ("lora_", ".weight")
        for letter, values in (("A", a), ("B", b)):
            tensors[f"{_PREFIX}{module}.{kind}{letter}{ending}"] = np.ascontiguousarray(values, np.float32)
    out.mkdir(parents=True, exist_ok=True)
    save_file(tensors, out / "adapter_model.safetensors", metadata={"format": "pt"})
    (out / "adapter_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def adapter_config(adapters: Sequence[Adapter], merged: Mapping[str, Factors]) -> dict[str, Any]:
    """The adapter_config.json of merged factors: ranks with alphas that make every scale 1, and the modules by name where they differ."""
    first = next((adapter.config for adapter in adapters if adapter.config), None)
    if first is None:
        raise PlanError(
            "adapters from memory have no adapter_config.json to go by",
            where="out",
            hint="leave out away, or give one of the adapters as a folder",
        )
    ranks = {module: factors.rank for module, factors in merged.items()}
    most = max(ranks.values())
    odd = {module: rank for module, rank in ranks.items() if rank != most}
    targets = [adapter.config.get("target_modules") for adapter in adapters]
    same = all(target == targets[0] for target in targets) and all(
        adapter.modules.keys() == merged.keys() for adapter in adapters
    )
    return {
        **{key: value for key, value in first.items() if key not in _OURS},
        "target_modules": targets[0] if same else sorted(merged),
        "r": most,
        "lora_alpha": most,
        "rank_pattern": odd,
        "alpha_pattern": odd,
        "use_rslora": False,
        "init_lora_weights": True,
        "inference_mode": True,
    }
