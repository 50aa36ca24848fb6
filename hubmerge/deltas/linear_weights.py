"""Which tensors of a model are weights of linear layers, which a LoRA can change: told by the model's modules, without their numbers."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hubmerge.errors import PlanError
from hubmerge.layers import comes_before
from hubmerge.model_config import model_class
from hubmerge.parents import ParentModel
from hubmerge.step_inputs import ties
from zoo_index.fingerprint import is_vocabulary_tensor
from zoo_index.tensors import TensorTable

if TYPE_CHECKING:
    from torch import nn

__all__ = ["LinearLayers", "LinearWeight", "chosen", "linear_layers"]

_WEIGHT = ".weight"


@dataclass(frozen=True)
class LinearWeight:
    """The weight of a linear layer or of a convolution.

    module: its name in the model that transformers makes.  transposed: it is stored as (in, out), as GPT-2 has it.  kernel: the sizes of
    a convolution's kernel; empty else.
    """

    module: str
    transposed: bool = False
    kernel: tuple[int, ...] = ()


@dataclass(frozen=True)
class LinearLayers:
    """weights: by the tensor's name.  tied: the weights of embeddings that a head shares.  notes: how all this was told, if by names.

    called: what the model that transformers makes calls a tensor, where the checkpoint calls it otherwise.
    """

    weights: Mapping[str, LinearWeight]
    tied: frozenset[str] = frozenset()
    called: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def linear_layers(model: ParentModel) -> LinearLayers:
    """Every weight that PEFT has a LoRA for, but embeddings.

    Left out: heads that are tied to embeddings, and convolutions that are grouped or dilated.  Where transformers does not have the
    class that the config names, every matrix counts whose name is not that of an embedding, a head or a table of positions.
    """
    try:
        modules = _without_numbers(model)
    except PlanError as fault:
        return _by_names(model, fault.message)
    stored = {own: name for own, name in _stored_names(modules, model.table) if name in model.table}
    weights = {weight.module: weight for weight in _weights(modules)}
    tied = frozenset(stored[name] for name in _tied(modules) if name in stored)
    return LinearLayers(
        {
            name: weights[_module(own)]
            for own, name in stored.items()
            if _module(own) in weights and own.endswith(_WEIGHT)
        },
        tied,
        {name: own for own, name in stored.items() if name != own},
    )


def chosen(weights: Mapping[str, LinearWeight], patterns: Sequence[str]) -> dict[str, LinearWeight]:
    """Those whose module has one of the names, ends with one after a dot, or matches a pattern with ``*``; all where none is given.

    Raises `PlanError` for a pattern that is no module's.
    """
    for pattern in patterns:
        if not any(_matches(weight.module, pattern) for weight in weights.values()):
            near = next(iter(weights.values())).module if weights else "none"
            hint = f"a module's name, its end, or a pattern: {near} is one"
            raise PlanError(f"no linear layer is called {pattern!r}", where="--modules", hint=hint)
    return {
        name: weight
        for name, weight in weights.items()
        if not patterns or any(_matches(weight.module, pattern) for pattern in patterns)
    }


def _matches(module: str, pattern: str) -> bool:
    return module == pattern or module.endswith(f".{pattern}") or fnmatch.fnmatchcase(module, pattern)


def _by_names(model: ParentModel, why: str) -> LinearLayers:
    found = {
        name: LinearWeight(name.removesuffix(_WEIGHT))
        for name, meta in model.table.items()
        if len(meta.shape) == 2
        and name.endswith(_WEIGHT)
        and not (is_vocabulary_tensor(name) or comes_before(name) or "position" in name)
    }
    note = f"{model.reference}: {why}; which matrices are linear layers is told by their names"
    tied = frozenset() if ties(model) is False else frozenset(filter(is_vocabulary_tensor, model.table))
    return LinearLayers(found, tied, notes=(note,))


def _without_numbers(model: ParentModel) -> nn.Module:
    """The model on the meta device; `PlanError` where transformers cannot make it."""
    import torch

    where = str(model.reference)
    concrete = model_class(model.config, where)
    try:
        with torch.device("meta"):
            config: Any = concrete.config_class.from_dict(dict(model.config))
            made: nn.Module = concrete(config)
    except Exception as error:  # any model's constructor, on a stranger's config
        told = " ".join(str(error).split())[:200]
        raise PlanError(f"transformers cannot make its class ({type(error).__name__}: {told})", where=where) from error
    return made


def _weights(model: nn.Module) -> Iterator[LinearWeight]:
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    tables = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    inside = {
        f"{name}.{child}" for name, module in model.named_modules() if isinstance(module, nn.MultiheadAttention)
        for child, _ in module.named_modules() if child
    }  # fmt: skip
    for name, module in model.named_modules():
        if isinstance(module, Conv1D):
            yield LinearWeight(name, transposed=True)
        elif isinstance(module, nn.Linear) and id(module.weight) not in tables and name not in inside:
            yield LinearWeight(name)
        elif isinstance(module, nn.Conv2d) and module.groups == 1 and set(module.dilation) == {1}:
            yield LinearWeight(name, kernel=tuple(module.kernel_size))


def _tied(model: nn.Module) -> Iterator[str]:
    from torch import nn

    heads = {id(module.weight) for module in model.modules() if isinstance(module, nn.Linear)}
    for name, module in model.named_modules():
        if isinstance(module, nn.Embedding) and id(module.weight) in heads:
            yield f"{name}{_WEIGHT}"


def _module(tensor: str) -> str:
    return tensor.rpartition(".")[0]


def _stored_names(model: nn.Module, table: TensorTable) -> Iterator[tuple[str, str]]:
    """Every tensor of a model with its name in the checkpoint: transformers renames some when it loads and saves."""
    from transformers.core_model_loading import revert_weight_conversion

    own = model.state_dict()
    names = {id(values): name for name, values in own.items()}
    try:
        saved = revert_weight_conversion(model, dict(own))
    except Exception:
        saved = own
    for name, values in saved.items():
        if id(values) in names:
            found = name if name in table else _with_prefix(name, table)
            yield names[id(values)], name if found is None else found


def _with_prefix(name: str, table: TensorTable) -> str | None:
    """What a checkpoint calls a tensor of the model where the prefix of the class is missing, or there in addition."""
    found = [other for other in table if other.endswith(f".{name}") or name.endswith(f".{other}")]
    return found[0] if len(found) == 1 else None
