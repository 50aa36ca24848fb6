"""Models whose numbers are packed (GPTQ, AWQ, bitsandbytes, ...): told by config or tensor names, and what to use instead.

float8 is another matter: its numbers are numbers, and `zoo_index.float8` says how they are scaled.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zoo_index.errors import CheckpointError
from zoo_index.float8 import float8_scheme
from zoo_index.front_matter import front_matter
from zoo_index.source import ModelSource
from zoo_index.tensors import TensorTable

__all__ = ["packed_fault", "quantisation_of", "quantised_fault"]

_PACKED = {
    "qweight": "GPTQ or AWQ", "qzeros": "GPTQ or AWQ", "g_idx": "GPTQ", "absmax": "bitsandbytes", "quant_map": "bitsandbytes",
    "SCB": "bitsandbytes", "weight_packed": "compressed-tensors",
}  # fmt: skip
"""Last parts of tensor names that only such formats have."""


def quantisation_of(config: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """What a config says of the quantisation of the model or of a part of it; None for a plain model.

    MLX writes ``quantization`` with group_size and bits; everybody else ``quantization_config`` with quant_method.
    """
    parts = (config, *(value for key, value in config.items() if key.endswith("_config") and isinstance(value, dict)))
    for part in parts:
        told = part.get("quantization_config")
        if told:
            return told if isinstance(told, dict) else {}
    packed = config.get("quantization")
    return {"quant_method": "mlx", **packed} if isinstance(packed, dict) and "bits" in packed else None


def quantised_fault(config: Mapping[str, Any], source: ModelSource) -> CheckpointError | None:
    """The refusal of a model whose config says that its numbers are packed; None for plain and float8 models."""
    quantisation = quantisation_of(config)
    if quantisation is None or float8_scheme(quantisation) is not None:
        return None
    return CheckpointError(
        f"the model is quantised ({quantisation.get('quant_method', 'unknown')}); its packed numbers cannot be averaged",
        where=str(source.pinned),
        hint=_instead(config, source),
    )


def packed_fault(table: TensorTable, config: Mapping[str, Any], source: ModelSource) -> CheckpointError | None:
    """The refusal of a model whose tensors show what its config does not say."""
    for name in table:
        kind = _PACKED.get(name.rpartition(".")[2])
        if name.endswith("_blocks") and f"{name.removesuffix('_blocks')}_scales" in table:
            kind = "MXFP4"
        if kind is not None:
            return CheckpointError(
                f"tensor {name!r} holds packed numbers ({kind}), which cannot be averaged",
                where=str(source.pinned),
                hint=_instead(config, source),
            )
    return None


def _instead(config: Mapping[str, Any], source: ModelSource) -> str:
    """What to use: the model that the card or the config names as the one it was made from, where one does."""
    card = source.read("README.md").decode("utf-8", errors="replace") if "README.md" in source.files() else ""
    told = front_matter(card)[0].get("base_model")
    named = told[0] if isinstance(told, list) and len(told) == 1 else told
    named = named if isinstance(named, str) else config.get("_name_or_path")
    own = source.pinned.reference.name
    if isinstance(named, str) and named.isprintable() and 0 < len(named) < 200 and named != own:
        return f"use {named}, which it was made from"
    return "use the unquantised model it was made from"
