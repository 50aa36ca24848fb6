"""In which order a model uses its modules, and what it puts through them: seen on one sample."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hubmerge.heterogeneous.batches import Batch
from hubmerge.heterogeneous.running import run_once

if TYPE_CHECKING:
    from torch import nn
    from torch.utils.hooks import RemovableHandle

__all__ = ["Use", "run_watched", "uses_of"]


@dataclass(frozen=True)
class Use:
    """A module that the model uses, with the shapes of what it takes and gives."""

    module: str
    taken: tuple[int, ...]
    given: tuple[int, ...]


def uses_of(model: nn.Module, wanted: Collection[str], batch: Batch) -> list[Use]:
    """The modules in the order in which the model uses them, on one sample."""
    uses: list[Use] = []

    def used(name: str) -> Callable[..., None]:
        def hook(_module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            uses.append(Use(name, tuple(inputs[0].shape), tuple(output.shape)))

        return hook

    handles = [module.register_forward_hook(used(name)) for name, module in model.named_modules() if name in wanted]
    run_watched(model, {name: values[:1] for name, values in batch.items()}, handles)
    return uses


def run_watched(model: nn.Module, batch: Batch, handles: Iterable[RemovableHandle]) -> None:
    """Run the model once, without gradients; its hooks, which `handles` are of, go afterwards, whatever happens."""
    try:
        run_once(model, batch)
    finally:
        for handle in handles:
            handle.remove()
