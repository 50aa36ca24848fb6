"""An adapter whose start moved its base -> a plain LoRA adapter of the base as it was, of twice the rank: B A less the B A of the start.

The start is found again in the base (`hubmerge.lora.starts`), or read from the adapter as it was before training.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hubmerge.adapter_kinds import FOUND_AGAIN, moved_by, refuse_dora, refuse_start, scale_of
from hubmerge.adapters import AdapterTensors, split_tensors
from hubmerge.errors import PlanError
from hubmerge.lora.adapter import Adapter
from hubmerge.lora.base_tensors import AdapterBase, tensors_of, tensors_of_base
from hubmerge.lora.reading import read_adapter, stored_numbers
from hubmerge.lora.starts import starting_factors
from hubmerge.lora.writing import pattern_key, save_tensors
from hubmerge.parents import ParentModel, parent_of
from zoo_index.cache_folder import cache_folder
from zoo_index.checkpoint import read_adapter_table, read_json
from zoo_index.hub import fetch, open_source
from zoo_index.reference import ModelRef
from zoo_index.source import LocalFolder, ModelSource
from zoo_index.tensors import TensorTable

__all__ = ["plain_adapter", "plain_source", "read_plain"]

Array = NDArray[np.float32]
_FORMAT = 1
"""Raised when a conversion gives other bytes: the cache is asked for again under another name."""


class _Read(NamedTuple):
    """An adapter with its numbers.  where: what errors call it."""

    where: str
    source: ModelSource
    config: Mapping[str, Any]
    table: TensorTable
    tensors: AdapterTensors


def plain_adapter(adapter: str | Path, out: str | Path, *, base: Any = None, initial: str | Path | None = None) -> None:
    """Write an adapter that PiSSA, OLoRA, LoftQ or another start began as plain LoRA into the new folder `out`.

    adapter: a folder, or a repository of the Hub.  base: the model it was trained on as it was before, a folder, a repository or a state
    dict: PiSSA's and OLoRA's starts are found again in it.  initial: the adapter as it was before training, for every start.

    Raises `PlanError` for a start that cannot be found again, and for factors that do not fit base or `initial`.
    """
    folder = Path(out)
    if folder.exists() and any(folder.iterdir()):
        raise PlanError("the folder holds something already", where=str(out), hint="name a new folder")
    opened = None if initial is None else open_source(ModelRef.parse(str(initial)))
    folder.mkdir(parents=True, exist_ok=True)
    source = open_source(ModelRef.parse(str(adapter)))
    _write(source, str(adapter), folder, None if base is None else tensors_of_base(base), opened)


def read_plain(name: str, base: AdapterBase | None, initial: str | Path | None) -> Adapter:
    """An adapter, read into memory as a plain one with all that it has beside factors.

    base: for a start that is found again; None where the folder is taken that the adapter names, if it is there.  initial: the adapter as
    it was before training, taken off whatever its config says.  Raises as `plain_adapter` does, and `PlanError` for DoRA.
    """
    source = open_source(ModelRef.parse(name))
    config = read_json(source, "adapter_config.json") or {}
    if initial is None and moved_by(config) is None:
        return read_adapter(name, wholes=True)
    refuse_dora(config, name)
    stated = str(config.get("base_model_name_or_path") or "")
    if base is None and initial is None and stated and Path(stated).is_dir():
        base = tensors_of_base(stated)
    opened = None if initial is None else open_source(ModelRef.parse(str(initial)))
    with TemporaryDirectory(prefix="hubmerge-adapter-") as place:
        _write(source, name, Path(place), base, opened)
        return replace(read_adapter(place, wholes=True), name=name)


def plain_source(source: ModelSource, base: ModelParent) -> ModelSource:
    """An adapter's files, or those of the plain one that it was converted to and is kept as under ``HUBMERGE_CACHE``.

    base: the model that it is put on.  Only what has a start that is found again is converted; others stay what they are.
    """
    config = read_json(source, "adapter_config.json")
    if config is None or moved_by(config) not in FOUND_AGAIN:
        return source
    model = base if isinstance(base, ParentModel) else parent_of(*base)
    folder = _place(source, model.source)
    if not (folder / "adapter_config.json").is_file():
        partial = folder.with_name(f"{folder.name}.{os.getpid()}.partial")
        try:
            partial.mkdir(parents=True, exist_ok=True)
            _write(source, str(source.pinned.reference), partial, tensors_of(model), None)
            if not folder.exists():
                partial.rename(folder)
        except OSError as error:
            raise PlanError(
                f"the adapter cannot be converted ({error.strerror or error})",
                where=str(folder.parent),
                hint="HUBMERGE_CACHE names another place for the converted adapter",
            ) from error
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return LocalFolder(folder, source.pinned)


ModelParent = ParentModel | tuple[ModelRef, ModelSource]
"""A base that is open, or how it is opened."""


def _place(adapter: ModelSource, base: ModelSource) -> Path:
    key = [str(_FORMAT)]
    for source, ending in ((adapter, "adapter_model.safetensors"), (base, ".safetensors")):
        pinned = source.pinned
        key += [
            str(pinned.reference.path.resolve())
            if pinned.commit is None
            else f"{pinned.reference.name}@{pinned.commit}"
        ]
        files = [name for name in sorted(source.files()) if name.endswith(ending)] if pinned.commit is None else []
        states = [(name, source.path(name).stat()) for name in files]
        key += [f"{name} {state.st_size} {state.st_mtime_ns}" for name, state in states]
    return cache_folder() / "adapters" / hashlib.sha256("\n".join(key).encode()).hexdigest()[:32]


def _write(
    source: ModelSource, where: str, folder: Path, base: AdapterBase | None, initial: ModelSource | None
) -> None:
    """Write the plain adapter into the empty `folder`.  where: what errors call the adapter.  See `plain_adapter`."""
    own = _read(source, where)
    start = moved_by(own.config)
    if initial is None and (base is None or start not in FOUND_AGAIN):
        refuse_start(own.config, where)
        raise PlanError("the adapter did not move its base: it is plain already", where=where, hint="use it as it is")
    before = None if initial is None else _read(initial, str(initial.pinned.reference))
    written: dict[str, Array] = {}
    ranks: dict[str, int] = {}
    for (module, embedding), factors in own.tensors.pairs.items():
        if set(factors) != {"A", "B"} or embedding or len(factors["A"].shape) != 2:
            raise PlanError(f"{module!r} is no linear layer with both its factors", where=where, hint="fetch it again")
        a, b = (stored_numbers(source, factors[kind]) for kind in "AB")
        rank = a.shape[0]
        scale = scale_of(own.config, module, rank, where)
        b0: NDArray[Any]
        a0: NDArray[Any]
        if before is not None:
            b0, a0 = _initial(before, module, (b.shape[0], a.shape[1]))
        else:
            assert base is not None
            b0, a0 = _found(str(start), own, module, base, rank, scale)
        written[factors["A"].name] = np.concatenate([a, a0.astype(np.float32)])
        written[factors["B"].name] = np.concatenate([np.float32(scale) * b, -b0.astype(np.float32)], axis=1)
        ranks[module] = written[factors["A"].name].shape[0]
        bias = own.tensors.biases.get(module)
        if bias is not None:
            written[bias.name] = np.float32(scale) * stored_numbers(source, bias)
    rest = {meta.name: stored_numbers(source, meta) for meta in own.table.values() if meta.name not in written}
    save_tensors(folder / "adapter_model.safetensors", {**rest, **written})
    config = {**own.config, **_scales(ranks), "init_lora_weights": True}
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def _read(source: ModelSource, where: str) -> _Read:
    config = read_json(source, "adapter_config.json")
    if config is None:
        raise PlanError("no adapter_config.json, so this is not an adapter", where=where, hint="name a PEFT adapter")
    table = read_adapter_table(source)
    fetch([(source, file) for file in table.files])
    return _Read(where, source, config, table, split_tensors(table, config, where))


def _found(
    start: str, own: _Read, module: str, base: AdapterBase, rank: int, scale: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What the start took off the base's weight."""
    turned = bool(own.config.get("fan_in_fan_out"))
    if turned and start == "olora":
        raise PlanError("OLoRA is not found again where layers store (in, out)", where=own.where, hint="give initial")
    weight = base.tensor(f"{module}.weight")
    return starting_factors(start, weight.T if turned else weight, rank, scale, f"{own.where}: {module}")


def _initial(before: _Read, module: str, shape: tuple[int, int]) -> tuple[Array, Array]:
    """The product's factors before training, the scale in the first."""
    factors = before.tensors.pairs.get((module, False), {})
    if set(factors) != {"A", "B"}:
        raise PlanError(f"no factors of {module!r}, which the adapter has", where=before.where, hint="is it its start?")
    a, b = (stored_numbers(before.source, factors[kind]) for kind in "AB")
    if (b.shape[0], a.shape[1]) != shape:
        found = f"{b.shape[0]} x {a.shape[1]}"
        raise PlanError(
            f"{module!r} is {found}, not {shape[0]} x {shape[1]}", where=before.where, hint="is it its start?"
        )
    return np.float32(scale_of(before.config, module, a.shape[0], before.where)) * b, a


def _scales(ranks: Mapping[str, int]) -> dict[str, Any]:
    """The keys of a config that give every module the scale 1."""
    most = max(ranks.values())
    odd = {pattern_key(module, ranks): rank for module, rank in ranks.items() if rank != most}
    return {"r": most, "lora_alpha": most, "use_rslora": False, "rank_pattern": odd, "alpha_pattern": odd}
