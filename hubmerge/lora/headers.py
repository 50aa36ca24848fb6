"""A PEFT adapter as far as its header and config tell: `AdapterHeader`, opened from a reference; no numbers are read."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from hubmerge.adapter_kinds import other_rank, refuse_dora, refuse_unsupported, scale_of
from hubmerge.adapters import split_tensors
from hubmerge.errors import PlanError
from zoo_index.checkpoint import read_adapter_table, read_json
from zoo_index.hub import open_source
from zoo_index.reference import ModelRef
from zoo_index.source import ModelSource
from zoo_index.tensors import TensorMeta, TensorTable

__all__ = [
    "AdapterHeader",
    "FactorMetas",
    "check_one_base",
    "different_bases",
    "header_of",
    "open_adapter",
    "other_ranks",
]


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
    """modules: name -> its factors.  embeddings: those that are embeddings.  config: adapter_config.json.

    copies, biases, carried: what there is beside factors, as in `hubmerge.lora.adapter.Adapter`; biases without the scale.
    converted: the table of the adapter that this one was made of (`hubmerge.lora.plain`), where it was.
    """

    reference: ModelRef
    source: ModelSource
    config: Mapping[str, Any]
    table: TensorTable
    modules: Mapping[str, FactorMetas]
    embeddings: frozenset[str]
    copies: Mapping[str, TensorMeta] = field(default_factory=dict)
    biases: Mapping[str, TensorMeta] = field(default_factory=dict)
    carried: Mapping[str, TensorMeta] = field(default_factory=dict)
    converted: TensorTable | None = None

    @property
    def given(self) -> TensorTable:
        """What is in the file that was named."""
        return self.table if self.converted is None else self.converted

    @property
    def name(self) -> str:
        return str(self.reference)


def open_adapter(
    reference: ModelRef,
    commit: str | None = None,
    hint: str = "name a PEFT adapter",
    *,
    wholes: bool = False,
    starts: bool = False,
) -> AdapterHeader:
    """Read the header and the config of an adapter: a folder, or a repository of the Hub, at `commit` if one is given.

    hint: what to do where it is no adapter.  Scales are alpha / r, alpha / sqrt(r) for rsLoRA, with the patterns of a module.  wholes:
    whether it may have more than factors (modules_to_save, biases).  starts: whether its start may have moved the base.

    Raises `PlanError` for an adapter that is no additive low-rank term (DoRA, other types, starts that moved the base), for one
    that has more than factors where it may not, and for factors that do not fit each other.
    """
    source = open_source(ModelRef.of(reference.name, commit) if commit else reference)
    return header_of(reference, source, hint, wholes=wholes, starts=starts)


def header_of(
    reference: ModelRef, source: ModelSource, hint: str = "", *, wholes: bool = False, starts: bool = False
) -> AdapterHeader:
    """`open_adapter` for files that are at hand.  reference: what errors call them by."""
    name = str(reference)
    config = read_json(source, "adapter_config.json")
    if config is None:
        raise PlanError("no adapter_config.json, so this is not an adapter", where=name, hint=hint)
    refuse_unsupported(config, name, starts=starts)
    refuse_dora(config, name)
    table = read_adapter_table(source)
    tensors = split_tensors(table, config, name)
    pairs = tensors.pairs
    own = {f"{module}.weight" for module, _ in pairs}
    carried = {name: meta for name, meta in tensors.others.items() if name in own and ".base_layer." in meta.name}
    copies = {name: meta for name, meta in tensors.others.items() if name not in carried}
    _check_numbers((*tensors.others.values(), *tensors.biases.values()), name)
    twice = next((tensor for tensor in copies if tensor in own), None)
    if twice is not None:
        raise PlanError(
            f"the adapter both replaces {twice!r} and adds to it", where=name, hint="save the adapter again"
        )
    beside = (*tensors.others, *(f"{module}.bias" for module in tensors.biases))
    if beside and not wholes:
        raise PlanError(
            f"the adapter also replaces {len(beside)} of its base's tensors, {min(beside)!r} the first",
            where=name,
            hint="merge whole models instead: `hubmerge merge` with models named base+adapter",
        )
    modules = {}
    for (module, _), factors in pairs.items():
        modules[module] = _fitting(factors["A"], factors["B"], config, module, name)
    embeddings = frozenset(module for module, is_embedding in pairs if is_embedding)
    if not modules:
        raise PlanError("the adapter has no low-rank factors", where=name, hint="fetch or save it again")
    return AdapterHeader(reference, source, config, table, modules, embeddings, copies, tensors.biases, carried)


def _check_numbers(metas: Sequence[TensorMeta], name: str) -> None:
    odd = next((meta for meta in metas if not meta.dtype.is_float), None)
    if odd is not None:
        raise PlanError(
            f"the adapter's {odd.name!r} holds {odd.dtype.value} numbers", where=name, hint="fetch or save it again"
        )


def _fitting(a: TensorMeta, b: TensorMeta, config: Mapping[str, Any], module: str, name: str) -> FactorMetas:
    """The factors of one module with their scale, if they are numbers and fit each other."""
    _check_numbers((a, b), name)
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


class _HasRank(Protocol):
    @property
    def rank(self) -> int: ...


class _HasRanks(_Stating, Protocol):
    """An adapter that says what it was trained on, and has factors."""

    @property
    def modules(self) -> Mapping[str, _HasRank]: ...


def other_ranks(adapter: _HasRanks) -> str | None:
    """See `other_rank`."""
    return other_rank(adapter.config, {module: part.rank for module, part in adapter.modules.items()}, adapter.name)


def check_one_base(adapters: Sequence[_Stating], where: str = "adapters", *, other_bases: bool | None = None) -> None:
    """Raise `PlanError` for adapters that say that they were trained on different models, or on different revisions of one.

    other_bases: whether that is asked for; None where nobody can.  Layers that store their weights in another order are refused always.
    """
    told = different_bases(adapters)
    if told is not None and not other_bases:
        one = "merge adapters of one base" if other_bases is None else "other_bases merges them all the same"
        raise PlanError(told, where=where, hint=f"{one}, or each with its own base by models named base+adapter")
    turned = {bool(adapter.config.get("fan_in_fan_out")) for adapter in adapters if adapter.config}
    if len(turned) > 1:
        raise PlanError("fan_in_fan_out differs between the adapters", where=where, hint="are they of one base?")


def different_bases(adapters: Sequence[_Stating]) -> str | None:
    """A sentence on adapters that say that they were trained on different models, or revisions of one; None where they do not."""
    stated = {adapter.name: adapter.config for adapter in adapters if adapter.config}
    for key, what in (("base_model_name_or_path", "models"), ("revision", "revisions of their model")):
        own = {name: config[key] for name, config in stated.items() if config.get(key)}
        if len(set(own.values())) > 1:
            told = ", ".join(f"{name} on {value}" for name, value in own.items())
            return f"the adapters were trained on different {what} ({told})"
    return None
