"""Which files of a model are its weights: single file, sharded with an index, or an adapter -> one `TensorTable`.

Reads headers only.  Everything that would make the weights ambiguous or unsafe is refused here by name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from zoo_index.errors import CheckpointError
from zoo_index.header import PREFIX_BYTES, Header, header_length, parse_header
from zoo_index.hub import ModelSource
from zoo_index.quantised import quantised_fault
from zoo_index.tensors import TensorTable
from zoo_index.unread_formats import adapter_conversion, no_config_fault, no_weights_fault

__all__ = ["ADAPTER_WEIGHTS", "read_adapter_table", "read_config", "read_json", "read_tensor_table"]

SINGLE, INDEX, ADAPTER_WEIGHTS = "model.safetensors", "model.safetensors.index.json", "adapter_model.safetensors"
_SHARD = re.compile(r"model-\d{5,}-of-\d{5,}\.safetensors\Z")


def read_json(source: ModelSource, name: str) -> dict[str, Any] | None:
    """The JSON object in file `name`, or None when the model has no such file."""
    if name not in source.files():
        return None
    try:
        value = json.loads(source.read(name).decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:  # ValueError: no UTF-8, no JSON, or a number of 5,000 digits
        raise CheckpointError(
            f"{name} is not JSON ({error})", where=_where(source), hint="fetch or save it again"
        ) from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{name} is not a JSON object", where=_where(source), hint="fetch or save it again")
    return value


def read_config(source: ModelSource) -> dict[str, Any]:
    """The model's config.json; refuses a folder without one and a quantised model."""
    config = read_json(source, "config.json")
    if config is None:
        raise no_config_fault(source)
    fault = quantised_fault(config, source)
    if fault is not None:
        raise fault
    return config


def read_tensor_table(source: ModelSource) -> TensorTable:
    """Every tensor of a model from the headers of its safetensors files.

    Raises `CheckpointError` for pickle-only, GGUF-only and weightless folders, for a single file beside an index,
    for a shard missing from disk or from the index, and for an index that disagrees with the shards' headers.
    """
    files = source.files()
    if SINGLE in files and INDEX in files:
        raise CheckpointError(
            f"both {SINGLE} and {INDEX} are here, and they can describe different weights",
            where=_where(source),
            hint="delete the stale one",
        )
    if SINGLE in files:
        return _table({SINGLE: _header(source, SINGLE, files[SINGLE])})
    if INDEX in files:
        return _sharded_table(source, files)
    raise no_weights_fault(source, read_json(source, "config.json"))


def read_adapter_table(source: ModelSource) -> TensorTable:
    """Every tensor of a PEFT adapter from the header of adapter_model.safetensors."""
    files = source.files()
    if ADAPTER_WEIGHTS not in files:
        pickled = "adapter_model.bin" in files
        raise CheckpointError(
            "the adapter has only pickled weights, which can run code when read"
            if pickled
            else f"no {ADAPTER_WEIGHTS}",
            where=_where(source),
            hint=adapter_conversion(source) if pickled else "name the folder that PeftModel.from_pretrained would take",
        )
    return _table({ADAPTER_WEIGHTS: _header(source, ADAPTER_WEIGHTS, files[ADAPTER_WEIGHTS])})


def _where(source: ModelSource) -> str:
    return str(source.pinned)


def _header(source: ModelSource, name: str, size: int) -> Header:
    file = f"{_where(source)}/{name}"
    length = header_length(source.read(name, 0, PREFIX_BYTES), file=file, file_size=size)
    return parse_header(source.read(name, 8, 8 + length), file=file, file_size=size)


def _table(headers: Mapping[str, Header]) -> TensorTable:
    from dataclasses import replace

    rows = [replace(meta, file=name) for name, header in headers.items() for meta in header.tensors]
    return TensorTable.of(rows, {name: header.sha256 for name, header in sorted(headers.items())})


def _sharded_table(source: ModelSource, files: Mapping[str, int]) -> TensorTable:
    where = f"{_where(source)}/{INDEX}"
    hint = "fetch the model again, or save it again with save_pretrained"
    index = read_json(source, INDEX)
    weight_map = (index or {}).get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(shard, str) for shard in weight_map.values()):
        raise CheckpointError("the index has no weight_map of names to files", where=where, hint=hint)
    shards = sorted(set(weight_map.values()))
    for shard in shards:
        if shard not in files:
            source.path(shard)  # refuses a path that leaves the folder
            raise CheckpointError(f"the index names {shard}, which is not in the folder", where=where, hint=hint)
    extra = sorted(name for name in files if _SHARD.match(name) and name not in shards)
    if extra:
        raise CheckpointError(f"{extra[0]} is in the folder but not in the index", where=where, hint=hint)
    headers = {shard: _header(source, shard, files[shard]) for shard in shards}
    held: dict[str, str] = {}
    for shard, header in headers.items():
        for meta in header.tensors:
            if meta.name in held:
                raise CheckpointError(
                    f"tensor {meta.name!r} is in both {held[meta.name]} and {shard}", where=where, hint=hint
                )
            held[meta.name] = shard
    for name in sorted(weight_map.keys() | held.keys()):
        if weight_map.get(name) != held.get(name):
            says, has = weight_map.get(name, "nothing about it"), held.get(name, "no shard")
            raise CheckpointError(f"tensor {name!r}: the index says {says}, {has} holds it", where=where, hint=hint)
    return _table(headers)
