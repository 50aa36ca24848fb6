"""In which order a model uses its modules, and what it puts through them: seen on one sample."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["Use", "uses_of"]


@dataclass(frozen=True)
class Use:
    """A module that the model uses, with the shapes of what it takes and gives."""

    module: str
    taken: tuple[int, ...]
    given: tuple[int, ...]


def uses_of(model: nn.Module, wanted: Collection[str], batch: Mapping[str, Tensor]) -> list[Use]:
    """The modules in the order in which the model uses them, on one sample."""
    import torch

    uses: list[Use] = []

    def used(name: str) -> Callable[..., None]:
        def hook(_module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            uses.append(Use(name, tuple(inputs[0].shape), tuple(output.shape)))

        return hook

    handles = [module.register_forward_hook(used(name)) for name, module in model.named_modules() if name in wanted]
    try:
        with torch.no_grad():
            model(**{name: values[:1] for name, values in batch.items()})
    finally:
        for handle in handles:
            handle.remove()
    return uses
