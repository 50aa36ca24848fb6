"""A merged adapter as PEFT's folder: adapter_model.safetensors, and an adapter_config.json that loads it with scale 1."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hubmerge.errors import PlanError
from hubmerge.io.shards import lay_out
from hubmerge.lora.adapter import Adapter, Factors
from zoo_index.tensors import DType

__all__ = ["adapter_config", "factor_names", "write_adapter", "write_into"]

_PREFIX = "base_model.model."
_OURS = ("r", "lora_alpha", "rank_pattern", "alpha_pattern", "use_rslora", "init_lora_weights", "inference_mode")


def write_adapter(out: Path, adapters: Sequence[Adapter], merged: Mapping[str, Factors]) -> None:
    """Write merged factors into the new folder `out`.

    adapters: those that were merged; the first that has a config gives what a config says beside the ranks.  Raises `PlanError` for a
    folder that holds something, and for adapters from memory alone, of which no config is known.
    """
    if out.exists() and any(out.iterdir()):
        raise PlanError("the folder holds something already", where=str(out), hint="name a new folder")
    adapter_config(adapters, merged)
    out.mkdir(parents=True, exist_ok=True)
    write_into(out, adapters, merged)


def write_into(
    folder: Path, adapters: Sequence[Adapter], merged: Mapping[str, Factors], own: Mapping[str, Any] | None = None
) -> None:
    """The same into a folder that is there.  own: keys of the config with other values than the adapters' first."""
    config = {**adapter_config(adapters, merged), **(own or {})}
    embeddings = frozenset().union(*(adapter.embeddings for adapter in adapters))
    kernels = {module: kernel for adapter in adapters for module, kernel in adapter.kernels.items()}
    tensors: dict[str, Any] = {}
    for module, factors in merged.items():
        a, b = factors.a, factors.b * factors.scale
        if module in kernels:
            first, second = kernels[module]
            a, b = a.reshape(a.shape[0], *first), b.reshape(*b.shape, *second)
        for name, values in zip(factor_names(module, is_embedding=module in embeddings), (a, b), strict=True):
            tensors[name] = np.ascontiguousarray(values, np.float32)
    layout = lay_out([(name, DType.F32, values.shape) for name, values in tensors.items()], 1 << 62)
    with (folder / "adapter_model.safetensors").open("wb") as file:
        file.writelines(layout.headers.values())
        for meta in layout.tensors:  # in the order of their places
            file.write(tensors[meta.name].data)
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def factor_names(module: str, *, is_embedding: bool) -> tuple[str, str]:
    """What PEFT's file calls a module's A and B."""
    kind, ending = ("lora_embedding_", "") if is_embedding else ("lora_", ".weight")
    return f"{_PREFIX}{module}.{kind}A{ending}", f"{_PREFIX}{module}.{kind}B{ending}"


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
