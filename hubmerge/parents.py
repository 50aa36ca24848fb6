"""The input models as far as their headers and configs tell: `ParentModel`, opened from a reference."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from hubmerge.adapter_kinds import FOUND_AGAIN, moved_by, other_rank
from hubmerge.adapters import AdapterEffect, read_adapter_effect
from hubmerge.errors import PlanError
from hubmerge.gguf import ConvertedGguf, open_model
from zoo_index.checkpoint import read_adapter_table, read_config, read_json, read_tensor_table
from zoo_index.float8 import FLOAT8, float8_scheme, split_scales
from zoo_index.hub import HubRepo, ModelSource
from zoo_index.metadata import ModelRecord, read_record
from zoo_index.quantised import packed_fault, quantisation_of
from zoo_index.reference import ModelRef
from zoo_index.tensors import DType, TensorTable

__all__ = ["IN_BFLOAT16", "ParentModel", "open_parent", "parent_of", "refuse_adapter"]

_MERGEABLE = frozenset({DType.F64, DType.F32, DType.F16, DType.BF16, *FLOAT8})
"""Floating-point types that the engine computes with."""
_COPYABLE = frozenset(
    {DType.I64, DType.U64, DType.I32, DType.U32, DType.I16, DType.U16, DType.I8, DType.U8, DType.BOOL, DType.C64}
)
"""Types of buffers, which are copied or counted."""

_START_TAKEN_OFF = "{}: its start also moved the base it was trained on; it was found again in the base and taken off"


@dataclass(frozen=True)
class ParentModel:
    """One input: where its files are, its config, its tensors, and what its adapter does to them."""

    reference: ModelRef
    source: ModelSource
    config: Mapping[str, Any]
    table: TensorTable
    adapter_source: ModelSource | None = None
    adapter_table: TensorTable | None = None
    effect: AdapterEffect | None = None
    notes: tuple[str, ...] = ()
    """What a person would want to know of how its numbers are read."""

    @property
    def commit(self) -> str | None:
        return self.source.pinned.commit

    @property
    def adapter_commit(self) -> str | None:
        return self.adapter_source.pinned.commit if self.adapter_source else None

    @property
    def headers(self) -> dict[str, str]:
        """Weight file -> sha256 of its header; the adapter's under ``adapter/``."""
        own = dict(self.table.headers)
        if self.adapter_table:
            own |= {f"adapter/{name}": digest for name, digest in self.adapter_table.headers.items()}
        return own

    @property
    def identity(self) -> tuple[object, ...]:
        """What two references to one and the same model share, however they are spelled."""
        own = (_place(self.source), self.commit)
        return (*own, _place(self.adapter_source), self.adapter_commit) if self.adapter_source else own

    @property
    def moved_to(self) -> str | None:
        """The Hub's name for the model today, when it is not the one asked for."""
        source = self.source
        return source.name if isinstance(source, HubRepo) and source.name != self.reference.name else None

    @cached_property
    def record(self) -> ModelRecord:
        """What the catalog would say of the model (without its adapter)."""
        return read_record(self.source)


def _open(reference: ModelRef, pins: Mapping[str, str]) -> ModelSource:
    return open_model(reference, pins.get(str(reference)))


def _place(source: ModelSource) -> str:
    reference = source.pinned.reference
    return str(reference.path.resolve()) if reference.is_local else reference.name


def open_parent(reference: ModelRef, pins: Mapping[str, str] | None = None) -> ParentModel:
    """Read headers and configs of one model and its adapter; no weights.

    pins: name of a model or adapter -> the commit to take it at.

    Raises `ModelNotFoundError`, `CheckpointError` or `PlanError` for a model that cannot be merged.
    """
    own = parent_of(reference, _open(reference.model, pins or {}))
    if reference.adapter is None:
        return own
    adapter_source = _open(reference.adapter, pins or {})
    adapter_config = read_json(adapter_source, "adapter_config.json")
    if adapter_config is None:
        raise PlanError(
            "no adapter_config.json, so this is not an adapter",
            where=str(reference.adapter),
            hint="after the + comes a PEFT adapter",
        )
    if moved_by(adapter_config) in FOUND_AGAIN:
        from hubmerge.lora.plain import plain_source

        adapter_source = plain_source(adapter_source, own)
        adapter_config = read_json(adapter_source, "adapter_config.json") or {}
        own = replace(own, notes=(*own.notes, _START_TAKEN_OFF.format(reference.adapter)))
    adapter_table = read_adapter_table(adapter_source)
    _refuse_odd_types(adapter_table, reference.adapter)
    effect = read_adapter_effect(adapter_config, adapter_table, own.table, str(reference))
    told = other_rank(adapter_config, effect.ranks, str(reference.adapter))
    own = own if told is None else replace(own, notes=(*own.notes, told))
    return replace(own, adapter_source=adapter_source, adapter_table=adapter_table, effect=effect)


IN_BFLOAT16 = "save it in bfloat16 first: `hubmerge merge` with merge_method: passthrough and this model alone"
"""What to do with a model stored in float8 where its numbers have to be moved."""


def refuse_adapter(reference: ModelRef, message: str) -> None:
    """`PlanError` for a model with an adapter, where only one model's own weights will do; message: what is not done with such."""
    if reference.adapter is not None:
        raise PlanError(
            message,
            where=str(reference),
            hint="make one model of the two first: `hubmerge merge` with merge_method: passthrough and this model alone",
        )


def parent_of(reference: ModelRef, source: ModelSource) -> ParentModel:
    """The model whose files are `source`, without its adapter; raises as `open_parent` does."""
    config = read_config(source)
    quantisation = quantisation_of(config)
    scheme = float8_scheme(quantisation) if quantisation is not None else None
    table, left = split_scales(read_tensor_table(source), scheme, str(reference))
    if not table:
        raise PlanError("the model has no tensors", where=str(reference), hint="fetch or save it again")
    packed = packed_fault(table, config, source)
    if packed is not None:
        raise packed
    _refuse_odd_types(table, reference)
    notes = source.notes if isinstance(source, ConvertedGguf) else ()
    return ParentModel(reference, source, config, table, notes=(*notes, *_float8_notes(reference, table, left)))


def _float8_notes(reference: ModelRef, table: TensorTable, left: tuple[str, ...]) -> tuple[str, ...]:
    small = [meta for meta in table.values() if meta.dtype in FLOAT8]
    if not small:
        return ()
    text = f"{reference}: tensors in float8, which keeps 2 or 3 bits of a number after the first: {len(small)}"
    scaled = sum(meta.scale is not None for meta in small)
    if scaled:
        text += f"; multiplied by their scales when they are read: {scaled}; scales that are not written: {len(left)}"
    return (text,)


def _refuse_odd_types(table: TensorTable, reference: ModelRef) -> None:
    odd = [meta for meta in table.values() if meta.dtype not in _MERGEABLE and meta.dtype not in _COPYABLE]
    if odd:
        more = f", like {len(odd) - 1} more" if len(odd) > 1 else ""
        raise PlanError(
            f"tensor {odd[0].name!r} is {odd[0].dtype.value}{more}, which this version does not merge",
            where=str(reference),
            hint="use the float32, float16 or bfloat16 model it was made from",
        )
