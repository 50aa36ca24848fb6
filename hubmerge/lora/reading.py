"""A PEFT adapter's folder, or its repository on the Hub -> `Adapter`: factors with the scale that PEFT gives each module."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hubmerge.adapters import refuse_unsupported, scale_of, split_tensors
from hubmerge.errors import PlanError
from hubmerge.io.reader import NUMPY, to_singles
from hubmerge.lora.adapter import Adapter, Factors, checked
from zoo_index.checkpoint import read_adapter_table, read_json
from zoo_index.hub import fetch, open_source
from zoo_index.reference import ModelRef
from zoo_index.source import ModelSource
from zoo_index.tensors import TensorMeta

__all__ = ["check_one_base", "read_adapter"]


def read_adapter(name: str) -> Adapter:
    """Read an adapter's factors into memory, float32.

    name: a folder, or a repository of the Hub.  Scales are alpha / r, alpha / sqrt(r) for rsLoRA, with the patterns of a module.

    Raises `PlanError` for an adapter that is no additive low-rank term (DoRA, other types, starts that moved the base), for one
    that also replaces tensors (modules_to_save, biases), and for factors that do not fit each other.
    """
    source = open_source(ModelRef.parse(name))
    config = read_json(source, "adapter_config.json")
    if config is None:
        raise PlanError("no adapter_config.json, so this is not an adapter", where=name, hint="name a PEFT adapter")
    refuse_unsupported(config, name)
    table = read_adapter_table(source)
    pairs, others = split_tensors(table, name)
    if others:
        raise PlanError(
            f"the adapter also replaces {len(others)} of its base's tensors, {min(others)!r} the first",
            where=name,
            hint="merge whole models instead: `hubmerge merge` with models named base+adapter",
        )
    fetch([(source, file) for file in table.files])
    modules, kernels = {}, {}
    for (module, _), factors in pairs.items():
        if set(factors) != {"A", "B"}:
            raise PlanError(
                f"the adapter has lora_{next(iter(factors))} of {module!r} without its partner",
                where=name,
                hint="the adapter is incomplete; fetch or save it again",
            )
        a, b = (_numbers(source, factors[kind]) for kind in "AB")
        if a.ndim > 2:
            kernels[module] = (a.shape[1:], b.shape[2:])
            a, b = a.reshape(a.shape[0], -1), b.reshape(b.shape[0], -1)
        scale = scale_of(config, module, a.shape[0], name)
        modules[module] = checked(Factors(a, b, scale), module, name)
    embeddings = frozenset(module for module, is_embedding in pairs if is_embedding)
    return Adapter(name, modules, embeddings, kernels, config)


def _numbers(source: ModelSource, meta: TensorMeta) -> NDArray[np.float32]:
    if not meta.dtype.is_float:
        raise PlanError(
            f"the adapter's {meta.name!r} holds {meta.dtype.value} numbers",
            where=str(source.pinned.reference),
            hint="fetch or save it again",
        )
    stored = np.fromfile(source.path(meta.file), NUMPY[meta.dtype], meta.numel, offset=meta.start)
    numbers = np.empty(meta.numel, np.float32)
    to_singles(stored, meta.dtype, numbers)
    return numbers.reshape(meta.shape)


def check_one_base(adapters: Sequence[Adapter]) -> None:
    """Raise `PlanError` for adapters that say that they were trained on different models, or on different revisions of one."""
    stated = {adapter.name: adapter.config for adapter in adapters if adapter.config}
    for key, what in (("base_model_name_or_path", "models"), ("revision", "revisions of their model")):
        own = {name: config[key] for name, config in stated.items() if config.get(key)}
        if len(set(own.values())) > 1:
            told = ", ".join(f"{name} on {value}" for name, value in own.items())
            raise PlanError(
                f"the adapters were trained on different {what} ({told})",
                where="adapters",
                hint="merge adapters of one base, or each with its own base by models named base+adapter",
            )
    turned = {bool(config.get("fan_in_fan_out")) for config in stated.values()}
    if len(turned) > 1:
        raise PlanError("fan_in_fan_out differs between the adapters", where="adapters", hint="are they of one base?")
