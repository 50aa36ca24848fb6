"""The layout of a checkpoint before any of its bytes exist: which tensor lies where in which file."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass

from zoo_index.tensors import DType, TensorMeta

__all__ = ["INDEX_NAME", "Layout", "lay_out"]

INDEX_NAME = "model.safetensors.index.json"
_ALIGNMENT = 8


@dataclass(frozen=True)
class Layout:
    """Tensors at their final places; header bytes (length prefix included) and size of each file; the index's text."""

    tensors: tuple[TensorMeta, ...]
    headers: dict[str, bytes]
    sizes: dict[str, int]
    index: str | None


def lay_out(tensors: Sequence[tuple[str, DType, tuple[int, ...]]], shard_size: int) -> Layout:
    """Place tensors (name, dtype, shape) in files of at most `shard_size` bytes of tensors each, in the order given.

    Within a file wider types come first, so that every tensor is aligned to its type.  One file is called
    model.safetensors; several are numbered and get the index that transformers reads.
    """
    shards: list[list[tuple[str, DType, tuple[int, ...]]]] = [[]]
    filled = 0
    for tensor in tensors:
        size = tensor[1].nbytes(tensor[2])
        if shards[-1] and filled + size > shard_size:
            shards.append([])
            filled = 0
        shards[-1].append(tensor)
        filled += size
    names = (
        ["model.safetensors"]
        if len(shards) == 1
        else [f"model-{i:05d}-of-{len(shards):05d}.safetensors" for i in range(1, len(shards) + 1)]
    )
    placed: list[TensorMeta] = []
    headers: dict[str, bytes] = {}
    sizes: dict[str, int] = {}
    for name, rows in zip(names, shards, strict=True):
        header, metas = _file(name, sorted(rows, key=lambda row: -row[1].bits))
        headers[name] = header
        placed += metas
        sizes[name] = metas[-1].end if metas else len(header)
    return Layout(tuple(placed), headers, sizes, _index(placed) if len(shards) > 1 else None)


def _file(name: str, rows: Sequence[tuple[str, DType, tuple[int, ...]]]) -> tuple[bytes, list[TensorMeta]]:
    entries: dict[str, object] = {"__metadata__": {"format": "pt"}}
    offset = 0
    spans = []
    for tensor, dtype, shape in rows:
        end = offset + dtype.nbytes(shape)
        entries[tensor] = {"dtype": dtype.value, "shape": list(shape), "data_offsets": [offset, end]}
        spans.append((offset, end))
        offset = end
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    start = 8 + len(text)
    metas = [
        TensorMeta(tensor, dtype, shape, name, start + low, start + high)
        for (tensor, dtype, shape), (low, high) in zip(rows, spans, strict=True)
    ]
    return len(text).to_bytes(8, "little") + text, metas


def _index(tensors: Sequence[TensorMeta]) -> str:
    total = sum(meta.nbytes for meta in tensors)
    parameters = sum(math.prod(meta.shape) for meta in tensors)
    weight_map = {meta.name: meta.file for meta in sorted(tensors, key=lambda meta: meta.name)}
    return (
        json.dumps(
            {"metadata": {"total_parameters": parameters, "total_size": total}, "weight_map": weight_map}, indent=2
        )
        + "\n"
    )
