"""float8 checkpoints: which tensors are stored in 8 bits, and by which scales they become weights.

A weight is its float8 number times a scale, of the tensor, of its row or of its block (128 by 128 as a rule), which is a
tensor of its own: ``X.weight_scale_inv`` (DeepSeek-V3's release and transformers' ``fp8``; in spite of its name it is
multiplied) or ``X.weight_scale`` (compressed-tensors, FBGEMM, ModelOpt).  Scales of activations and of the cache mean nothing to the
weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from zoo_index.errors import CheckpointError
from zoo_index.tensors import DType, Scale, TensorMeta, TensorTable

__all__ = ["FLOAT8", "Float8Scheme", "float8_scheme", "split_scales"]

FLOAT8 = frozenset({DType.F8_E4M3, DType.F8_E5M2})
_SCALES = frozenset({DType.F32, DType.F16, DType.BF16, DType.F8_E8M0})

_BLOCK = (128, 128)
_ENDINGS = ("_scale_inv", "_scale")
_OF_ACTIVATIONS = ("input_scale", "output_scale", "activation_scale", "k_scale", "v_scale", "q_scale", "input_scale_ub")


@dataclass(frozen=True)
class Float8Scheme:
    """What a config says of a float8 model.  block: rows and columns that share a scale."""

    block: tuple[int, int] = _BLOCK


def float8_scheme(quantisation: Mapping[str, Any]) -> Float8Scheme | None:
    """How the model of this ``quantization_config`` stores float8; None when it is another quantisation."""
    method = quantisation.get("quant_method")
    if method == "fp8":
        block = quantisation.get("weight_block_size") or _BLOCK
        fits = isinstance(block, list | tuple) and len(block) == 2 and all(isinstance(n, int) and n > 0 for n in block)
        return Float8Scheme((block[0], block[1])) if fits else None
    if method == "fbgemm_fp8":
        return Float8Scheme()
    if method == "modelopt" and quantisation.get("quant_algo") == "FP8":
        return Float8Scheme()
    if method == "compressed-tensors" and quantisation.get("format") in {"float-quantized", "naive-quantized"}:
        sparse = quantisation.get("sparsity_config")
        dense = not sparse or (isinstance(sparse, Mapping) and sparse.get("format", "dense") == "dense")
        return Float8Scheme() if dense and all(_is_float8(group) for group in _groups(quantisation)) else None
    return None


def _groups(quantisation: Mapping[str, Any]) -> Iterator[Any]:
    groups = quantisation.get("config_groups")
    for group in groups.values() if isinstance(groups, Mapping) else (None,):
        yield group.get("weights") if isinstance(group, Mapping) else None


def _is_float8(weights: Any) -> bool:
    return isinstance(weights, Mapping) and weights.get("type") == "float" and weights.get("num_bits") == 8


def split_scales(table: TensorTable, scheme: Float8Scheme | None, where: str) -> tuple[TensorTable, tuple[str, ...]]:
    """The table with the scales of float8 weights in their rows and not as tensors; and the names that were left out.

    scheme: of the config; None for a model whose config says nothing, where tensors without scales are plain numbers.
    Raises `CheckpointError`, for all tensors together, when scales do not fit their weight or are missing.
    """
    weights = [meta for meta in table.values() if meta.dtype in FLOAT8]
    if not weights:
        return table, ()
    scales: dict[str, Scale] = {}
    faults: list[CheckpointError] = []
    for meta in weights:
        stored = next((table[meta.name + end] for end in _ENDINGS if meta.name + end in table), None)
        if stored is not None:
            scale = _fitted(meta, stored, (scheme or Float8Scheme()).block)
            if scale is not None:
                scales[meta.name] = scale
                continue
            shape = f"{stored.dtype.value} {list(stored.shape)}"
            faults.append(
                CheckpointError(
                    f"tensor {stored.name!r} ({shape}) does not scale {meta.name!r}, which is {list(meta.shape)}",
                    where=where,
                    hint="use the bfloat16 model it was made from",
                )
            )
        elif scheme is not None:
            faults.append(
                CheckpointError(
                    f"float8 tensor {meta.name!r} has no scale beside it",
                    where=where,
                    hint=f"expected {meta.name}{_ENDINGS[1]} or {meta.name}{_ENDINGS[0]}; fetch the model again",
                )
            )
    if faults:
        raise CheckpointError.of(faults)
    used = {scale.tensor.name for scale in scales.values()}
    left = tuple(name for name in table if name in used or (scales and name.endswith(_OF_ACTIVATIONS)))
    kept = [replace(meta, scale=scales.get(name)) for name, meta in table.items() if name not in left]
    return TensorTable.of(kept, table.headers), left


def _fitted(weight: TensorMeta, stored: TensorMeta, block: tuple[int, int]) -> Scale | None:
    """How the scales `stored` lie over `weight`; None when they do not fit."""
    if stored.dtype not in _SCALES or not weight.shape:
        return None
    shape = weight.shape if len(weight.shape) > 1 else (1, *weight.shape)
    grid = stored.shape
    if stored.numel == 1:
        grid = (1,) * len(shape)
    elif len(grid) == len(shape) - 1:
        grid = (*grid, 1)
    if len(grid) != len(shape):
        return None
    if stored.numel != 1 and grid[:-2] != shape[:-2]:
        return None
    sizes = []
    for size, count, usual in zip(shape[-2:], grid[-2:], block, strict=True):
        length = size if count == 1 else 1 if count == size else usual
        if count != (-(-size // length) if length else count):
            return None
        sizes.append(max(1, length))
    rows = 1
    for size in shape[:-1]:
        rows *= size
    whole = stored.numel == 1
    return Scale(
        stored,
        rows,
        shape[-1],
        (max(1, rows), max(1, shape[-1])) if whole else (sizes[0], sizes[1]),
        rows if whole else shape[-2],
    )
