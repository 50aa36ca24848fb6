"""What a repository's weight files say about themselves: where the tensors begin, how many numbers of which type."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from math import prod
from pathlib import Path
from typing import Any

from hub.objects import ObjectStore
from hub.trees import Tree

__all__ = ["read_header", "safetensors_info", "tensors_from", "weight_shards"]

_SINGLE, _INDEX = "model.safetensors", "model.safetensors.index.json"
_HEADERLESS = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".h5", ".msgpack", ".onnx", ".gguf")


def tensors_from(name: str, path: Path) -> int | None:
    """The first byte of a weight file that is no header; None when the file `name` holds no weights."""
    if name.endswith(".safetensors"):
        with path.open("rb") as file:
            return 8 + int.from_bytes(file.read(8), "little")
    return 0 if name.endswith(_HEADERLESS) else None


def read_header(path: Path) -> dict[str, Any] | None:
    """The JSON header of a safetensors file, or None when the file is not one."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        if not 0 < size <= path.stat().st_size - 8:
            return None
        try:
            header = json.loads(file.read(size))
        except ValueError:
            return None
    return header if isinstance(header, dict) else None


def weight_shards(tree: Tree, objects: ObjectStore) -> tuple[str, ...]:
    """The safetensors files of a model: the single one, or those the index names; empty when there are none."""
    if _SINGLE in tree:
        return (_SINGLE,)
    if _INDEX not in tree:
        return ()
    try:
        shards = set(json.loads(objects.read(tree[_INDEX].sha256))["weight_map"].values())
    except (ValueError, KeyError, AttributeError, TypeError):
        return ()
    return tuple(sorted(shard for shard in shards if shard in tree))


def safetensors_info(tree: Tree, objects: ObjectStore) -> dict[str, Any] | None:
    """``{"parameters": {dtype: count}, "total": count}``, adapters included; None without readable headers."""
    shards: Iterable[str] = weight_shards(tree, objects) or ["adapter_model.safetensors"]
    counts: Counter[str] = Counter()
    for shard in shards:
        header = read_header(objects.path(tree[shard].sha256)) if shard in tree else None
        if header is None:
            return None
        for name, tensor in header.items():
            if name != "__metadata__" and isinstance(tensor, dict):
                counts[tensor["dtype"]] += prod(tensor["shape"])
    return {"parameters": dict(counts), "total": counts.total()}
