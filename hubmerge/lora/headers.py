"""A PEFT adapter as far as its header and config tell: `AdapterHeader`, opened from a reference; no numbers are read."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from hubmerge.adapter_kinds import refuse_dora, refuse_unsupported, scale_of
from hubmerge.adapters import split_tensors
from hubmerge.errors import PlanError
from zoo_index.checkpoint import read_adapter_table, read_json
from zoo_index.hub import open_source
from zoo_index.reference import ModelRef
from zoo_index.source import ModelSource
from zoo_index.tensors import TensorMeta, TensorTable

__all__ = ["AdapterHeader", "FactorMetas", "check_one_base", "open_adapter"]


class FactorMetas(NamedTuple):
    """One module's change ``scale * b @ a`` on disk, convolutions with their kernel's sizes as axes of their own."""

    a: TensorMeta
    b: TensorMeta
    scale: float

    @property
    def rank(self) -> int:
        return self.a.shape[0]

    @property
    def shape(self) -> tuple[int, int]:
        """(out, in) of the change as one matrix."""
        return self.b.shape[0], math.prod(self.a.shape[1:])


@dataclass(frozen=True)
class AdapterHeader:
    """modules: name -> its factors.  embeddings: those that are embeddings.  config: adapter_config.json."""

    reference: ModelRef
    source: ModelSource
    config: Mapping[str, Any]
    table: TensorTable
    modules: Mapping[str, FactorMetas]
    embeddings: frozenset[str]

    @property
    def name(self) -> str:
        return str(self.reference)


def open_adapter(reference: ModelRef, commit: str | None = None, hint: str = "name a PEFT adapter") -> AdapterHeader:
    """Read the header and the config of an adapter: a folder, or a repository of the Hub, at `commit` if one is given.

    hint: what to do where it is no adapter.  Scales are alpha / r, alpha / sqrt(r) for rsLoRA, with the patterns of a module.

    Raises `PlanError` for an adapter that is no additive low-rank term (DoRA, other types, starts that moved the base), for one
    that also replaces tensors (modules_to_save, biases), and for factors that do not fit each other.
    """
    name = str(reference)
    source = open_source(ModelRef.of(reference.name, commit) if commit else reference)
    config = read_json(source, "adapter_config.json")
    if config is None:
        raise PlanError("no adapter_config.json, so this is not an adapter", where=name, hint=hint)
    refuse_unsupported(config, name)
    refuse_dora(config, name)
    table = read_adapter_table(source)
    tensors = split_tensors(table, config, name)
    pairs, others = tensors.pairs, {**tensors.others, **tensors.biases}
    if others:
        raise PlanError(
            f"the adapter also replaces {len(others)} of its base's tensors, {min(others)!r} the first",
            where=name,
            hint="merge whole models instead: `hubmerge merge` with models named base+adapter",
        )
    modules = {}
    for (module, _), factors in pairs.items():
        if set(factors) != {"A", "B"}:
            raise PlanError(
                f"the adapter has lora_{next(iter(factors))} of {module!r} without its partner",
                where=name,
                hint="the adapter is incomplete; fetch or save it again",
            )
        modules[module] = _fitting(factors["A"], factors["B"], config, module, name)
    embeddings = frozenset(module for module, is_embedding in pairs if is_embedding)
    return AdapterHeader(reference, source, config, table, modules, embeddings)


def _fitting(a: TensorMeta, b: TensorMeta, config: Mapping[str, Any], module: str, name: str) -> FactorMetas:
    """The factors of one module with their scale, if they are numbers and fit each other."""
    odd = next((meta for meta in (a, b) if not meta.dtype.is_float), None)
    if odd is not None:
        raise PlanError(
            f"the adapter's {odd.name!r} holds {odd.dtype.value} numbers", where=name, hint="fetch or save it again"
        )
    if min(len(a.shape), len(b.shape)) < 2 or not a.numel or b.numel != b.shape[0] * a.shape[0]:
        raise PlanError(
            f"A {list(a.shape)} and B {list(b.shape)} of {module!r} are no factors of one change",
            where=name,
            hint="A is (rank, in) and B is (out, rank)",
        )
    return FactorMetas(a, b, scale_of(config, module, a.shape[0], name))


class _Stating(Protocol):
    """An adapter that says what it was trained on."""

    @property
    def name(self) -> str: ...

    @property
    def config(self) -> Mapping[str, Any]: ...


def check_one_base(adapters: Sequence[_Stating], where: str = "adapters") -> None:
    """Raise `PlanError` for adapters that say that they were trained on different models, or on different revisions of one."""
    stated = {adapter.name: adapter.config for adapter in adapters if adapter.config}
    for key, what in (("base_model_name_or_path", "models"), ("revision", "revisions of their model")):
        own = {name: config[key] for name, config in stated.items() if config.get(key)}
        if len(set(own.values())) > 1:
            told = ", ".join(f"{name} on {value}" for name, value in own.items())
            raise PlanError(
                f"the adapters were trained on different {what} ({told})",
                where=where,
                hint="merge adapters of one base, or each with its own base by models named base+adapter",
            )
    turned = {bool(config.get("fan_in_fan_out")) for config in stated.values()}
    if len(turned) > 1:
        raise PlanError("fan_in_fan_out differs between the adapters", where=where, hint="are they of one base?")
