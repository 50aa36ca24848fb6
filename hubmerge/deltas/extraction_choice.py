"""Which tensors of a fine-tune get factors in a LoRA, and why others cannot be in one; told from headers and config."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hubmerge.deltas.beside import Beside, beside
from hubmerge.deltas.linear_weights import LinearWeight, chosen, linear_layers
from hubmerge.errors import PlanError
from hubmerge.parents import ParentModel
from zoo_index.fingerprint import is_vocabulary_tensor

__all__ = ["Choice", "choose"]


@dataclass(frozen=True)
class Choice:
    """factored: by tensor the linear layer that it is the weight of.  rest: by tensor why it has no factors.

    tied: embeddings that a head shares.  called: what transformers' model calls a tensor, where that is another name.  notes: in words.
    """

    models: Beside
    factored: Mapping[str, LinearWeight]
    rest: Mapping[str, str]
    tied: frozenset[str]
    called: Mapping[str, str]
    notes: tuple[str, ...]


def choose(base: ParentModel, tuned: ParentModel, modules: Sequence[str]) -> Choice:
    """Choose the tensors of `tuned` that get factors.

    modules: names of modules, their ends, or patterns with ``*``; none: all linear layers and convolutions.  Raises `PlanError` for
    models that do not fit each other, a pattern that is no module's, and a model without a linear layer.
    """
    models = beside(
        base, [tuned], hint="an adapter is extracted from a fine-tune and the base it was trained from", statistics=True
    )
    layers = linear_layers(base)
    shared = {step.output.name for step in models.steps}
    grown = {name for name in shared if tuned.table[name].shape != base.table[name].shape}
    linear = {name: weight for name, weight in layers.weights.items() if name in shared}
    if not linear:
        hint = "a LoRA changes linear layers and convolutions; keep the fine-tune as it is"
        raise PlanError("it has no linear layer that a LoRA could change", where=str(base.reference), hint=hint)
    wanted = chosen(linear, modules)
    turned = any(weight.transposed for weight in linear.values())  # PEFT's configs have one word for all layers
    factored = {
        name: weight
        for name, weight in linear.items()
        if name not in grown and weight.transposed == turned and name in wanted
    }
    owners = {name.removesuffix(".weight") for name in factored}
    rest = {
        name: "linear layer that was not chosen" if name in linear else _why(name, owners, len(base.table[name].shape))
        for name in (step.output.name for step in models.steps)
        if name not in factored
    }
    return Choice(models, factored, rest, layers.tied, layers.called, (*models.notes, *layers.notes))


def _why(name: str, owners: set[str], axes: int) -> str:
    module, _, kind = name.rpartition(".")
    if kind == "bias" and module in owners:
        return "bias of a linear layer"
    if kind.startswith("running_"):
        return "statistics of BatchNorm"
    if is_vocabulary_tensor(name) or "embed" in name:
        return "embedding or head"
    return "norm or bias" if axes < 2 else "no linear layer"
