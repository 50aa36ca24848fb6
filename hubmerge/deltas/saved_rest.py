"""What PEFT saves of a model beside factors: modules as they are (``modules_to_save``), and biases of layers that have factors."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

__all__ = ["SavedRest", "saved_rest"]

_PREFIX = "base_model.model."


@dataclass(frozen=True)
class SavedRest:
    """names: by tensor what the adapter's file calls it.  modules: those that are saved whole.  biases: whether a bias is among them."""

    names: dict[str, str] = field(default_factory=dict)
    modules: tuple[str, ...] = ()
    biases: bool = False


def saved_rest(
    changed: Iterable[str],
    factored: Collection[str],
    tensors: Collection[str],
    tied: Collection[str],
    called: Mapping[str, str],
) -> SavedRest:
    """How the tensors `changed` are saved whole; those that cannot be are in no name.

    factored: modules that have factors; tensors: all of the model's.  tied: embeddings that a head shares, which PEFT would
    replace without the head.  Nor is a tensor saved that lies beside other modules in its own, since PEFT saves modules, or BatchNorm,
    of which PEFT wants the counter of batches.  called: what the model calls a tensor, where that is another name.
    """
    stored = {called.get(tensor, tensor): tensor for tensor in tensors}
    names: dict[str, str] = {}
    modules: dict[str, None] = {}
    biases = False
    for tensor in changed:
        module, _, kind = called.get(tensor, tensor).rpartition(".")
        if module in factored:
            names[tensor] = f"{_PREFIX}{module}.base_layer.{kind}"
            biases = True
        elif tensor not in tied and module and _is_leaf(_within(module, stored)):
            modules[module] = None
    for module in modules:
        names |= {stored[f"{module}.{own}"]: f"{_PREFIX}{module}.{own}" for own in _within(module, stored)}
    return SavedRest(names, tuple(modules), biases)


def _is_leaf(own: list[str]) -> bool:
    return "running_mean" not in own and all("." not in name for name in own)


def _within(module: str, tensors: Collection[str]) -> list[str]:
    return [name.removeprefix(f"{module}.") for name in tensors if name.startswith(f"{module}.")]
