"""A merged adapter as PEFT's folder: adapter_model.safetensors, and an adapter_config.json that loads it with scale 1."""

from __future__ import annotations

import json
from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hubmerge.errors import PlanError
from hubmerge.io.shards import lay_out
from hubmerge.lora.adapter import Adapter, Factors
from hubmerge.lora.wholes import Wholes
from zoo_index.tensors import DType

__all__ = [
    "adapter_config",
    "bias_name",
    "factor_names",
    "pattern_key",
    "save_tensors",
    "whole_name",
    "write_adapter",
    "write_into",
]

_PREFIX = "base_model.model."
_CHOOSING = ("exclude_modules", "layers_to_transform", "layers_pattern")
"""Keys that take modules out of `target_modules`."""
_OF_MEMORY: Mapping[str, Any] = {"peft_type": "LORA", "task_type": None, "lora_dropout": 0.0}
"""What a config says of adapters from memory, of which only the factors are known."""


def write_adapter(
    out: Path,
    adapters: Sequence[Adapter],
    merged: Mapping[str, Factors],
    wholes: Wholes | None = None,
    base: str | None = None,
) -> None:
    """Write merged factors, and what was merged beside them, into the new folder `out`.

    adapters: those that were merged; the first that has a config gives what a config says beside the ranks.  base: what the config calls
    the base where none of them has a config, being from memory.  Raises `PlanError` for a folder that holds something.
    """
    if out.exists() and any(out.iterdir()):
        raise PlanError("the folder holds something already", where=str(out), hint="name a new folder")
    adapter_config(adapters, merged, wholes)
    out.mkdir(parents=True, exist_ok=True)
    known = any(adapter.config for adapter in adapters)
    write_into(out, adapters, merged, None if known else {"base_model_name_or_path": base}, wholes)


def write_into(
    folder: Path,
    adapters: Sequence[Adapter],
    merged: Mapping[str, Factors],
    own: Mapping[str, Any] | None = None,
    wholes: Wholes | None = None,
    rest: Mapping[str, Any] | None = None,
) -> None:
    """The same into a folder that is there.

    own: keys of the config with other values than the adapters' first.  rest: tensors beside the factors, by the names that the file
    gets, float32.
    """
    beside = wholes or Wholes({}, {}, {})
    config = {**adapter_config(adapters, merged, beside), **(own or {})}
    embeddings = frozenset().union(*(adapter.embeddings for adapter in adapters))
    kernels = {module: kernel for adapter in adapters for module, kernel in adapter.kernels.items()}
    tensors: dict[str, Any] = dict(rest or {})
    for module, factors in merged.items():
        a, b = factors.a, factors.b * factors.scale
        if module in kernels:
            first, second = kernels[module]
            a, b = a.reshape(a.shape[0], *first), b.reshape(*b.shape, *second)
        for name, values in zip(factor_names(module, is_embedding=module in embeddings), (a, b), strict=True):
            tensors[name] = np.ascontiguousarray(values, np.float32)
    if beside.biases:  # PEFT has one for every module, or for none
        for module, factors in merged.items():
            bias = beside.biases.get(module, np.zeros(factors.shape[0]))
            tensors[bias_name(module)] = np.ascontiguousarray(bias, np.float32)
    for name, values in (*beside.copies.items(), *beside.carried.items()):
        tensors[whole_name(name, merged)] = np.ascontiguousarray(values, np.float32)
    save_tensors(folder / "adapter_model.safetensors", tensors)
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def save_tensors(path: Path, tensors: Mapping[str, Any]) -> None:
    """Write float32 tensors into one safetensors file, in the order of a merge's."""
    layout = lay_out([(name, DType.F32, values.shape) for name, values in tensors.items()], 1 << 62)
    with path.open("wb") as file:
        file.writelines(layout.headers.values())
        for meta in layout.tensors:  # in the order of their places
            file.write(np.ascontiguousarray(tensors[meta.name], np.float32).data)


def factor_names(module: str, *, is_embedding: bool) -> tuple[str, str]:
    """What PEFT's file calls a module's A and B."""
    kind, ending = ("lora_embedding_", "") if is_embedding else ("lora_", ".weight")
    return f"{_PREFIX}{module}.{kind}A{ending}", f"{_PREFIX}{module}.{kind}B{ending}"


def bias_name(module: str) -> str:
    """What PEFT's file calls the bias of a module's B."""
    return f"{_PREFIX}{module}.lora_B.bias"


def whole_name(name: str, modules: Container[str]) -> str:
    """What PEFT's file calls a whole tensor of the base, or a table that factors are added to.  modules: those with factors."""
    module, _, kind = name.rpartition(".")
    return f"{_PREFIX}{module}.base_layer.{kind}" if module in modules else f"{_PREFIX}{name}"


def adapter_config(
    adapters: Sequence[Adapter], merged: Mapping[str, Factors], wholes: Wholes | None = None
) -> dict[str, Any]:
    """The adapter_config.json of merged factors: ranks with alphas that make every scale 1, and the modules by name where they differ."""
    configs = [adapter.config for adapter in adapters if adapter.config] or [_OF_MEMORY]
    beside = wholes or Wholes({}, {}, {})
    embeddings = sorted(frozenset().union(*(adapter.embeddings for adapter in adapters)) & merged.keys())
    if beside.biases and embeddings:
        raise PlanError(
            f"PEFT has no adapter with lora_bias and an embedding, as {embeddings[0]!r} is",
            where="out",
            hint="merge whole models instead: `hubmerge merge` with models named base+adapter",
        )
    ranks = {module: factors.rank for module, factors in merged.items()}
    most = max(ranks.values())
    odd = {pattern_key(module, ranks): rank for module, rank in ranks.items() if rank != most}
    targets = [adapter.config.get("target_modules") for adapter in adapters]
    same = all(target == targets[0] for target in targets) and all(
        adapter.modules.keys() == merged.keys() for adapter in adapters
    )
    saved = sorted({module for config in configs for module in config.get("modules_to_save") or ()})
    biases = {str(config.get("bias", "none")) for config in configs} if beside.copies else set()
    return {
        **{key: value for key, value in configs[0].items() if same or key not in _CHOOSING},
        "target_modules": targets[0] if same and targets[0] else sorted(merged),
        "modules_to_save": [module for module in saved if _is_saved(module, beside)] or None,
        "bias": next((kind for kind in ("all", "lora_only") if kind in biases), "none"),
        "lora_bias": bool(beside.biases),
        "r": most,
        "lora_alpha": most,
        "rank_pattern": odd,
        "alpha_pattern": odd,
        "use_rslora": False,
        "init_lora_weights": True,
        "inference_mode": True,
    }


def _is_saved(module: str, wholes: Wholes) -> bool:
    """Whether a key of ``modules_to_save``, the end of a module's name, has a tensor."""
    return any(f".{module}." in f".{name}" for name in wholes.copies)


def pattern_key(module: str, modules: Mapping[str, int]) -> str:
    """A module in a pattern: PEFT looks for it at the end of names, so that one that ends another's is told by its beginning."""
    return f"^{module}" if any(other.endswith(f".{module}") for other in modules) else module
