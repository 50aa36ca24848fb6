"""Adapters in memory as models that can be run: a copy of their base with the changes of one of them on it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hubmerge.adapters import place_of
from hubmerge.errors import PlanError
from hubmerge.lora.adapter import Adapter
from hubmerge.lora.in_basis import is_turned, thin

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["OnBase"]


@dataclass(frozen=True)
class OnBase:
    """See `hubmerge.wrapper.ParentModels`: one copy of the base is made for every adapter that is asked for.

    copied: a copy of the base in float32 and evaluation mode, the caller's own.  data: batches of each adapter.
    """

    copied: Callable[[], nn.Module]
    adapters: Sequence[Adapter]
    data: Sequence[Sequence[Mapping[str, Tensor]]]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(adapter.name for adapter in self.adapters)

    def model(self, place: int) -> nn.Module:
        """The base with adapter `place` on it; `PlanError` for a change without a place in the base."""
        model = self.copied()
        _put(self.adapters[place], dict(model.named_parameters(remove_duplicate=False)))
        return model

    def base(self) -> nn.Module:
        return self.copied()

    def batches(self, place: int) -> Sequence[Mapping[str, Tensor]]:
        return self.data[place]

    def tensor_names(self, model: nn.Module) -> dict[str, str]:
        return {name: name for name, _ in model.named_parameters()}


def _put(adapter: Adapter, own: Mapping[str, Any]) -> None:
    """Change a model's parameters `own` as the adapter does."""
    import torch

    with torch.no_grad():
        for name, values in (*adapter.copies.items(), *adapter.carried.items()):
            parameter = own[place_of(name, own, adapter.name)]
            _check(adapter, name, values.shape, parameter.shape, same=values.shape == tuple(parameter.shape))
            parameter.copy_(torch.from_numpy(np.ascontiguousarray(values, np.float32)))
        for module, factors in adapter.modules.items():
            change = thin(factors, transposed=is_turned([adapter], module))
            parameter = own[place_of(f"{module}.weight", own, adapter.name)]
            shape = (change.left.shape[0], change.right.shape[1])
            fits = parameter.shape[0] == shape[0] and parameter.numel() == shape[0] * shape[1]
            _check(adapter, module, shape, parameter.shape, same=fits)
            change.add_to(parameter, 1.0)
        for module, bias in adapter.biases.items():
            parameter = own[place_of(f"{module}.bias", own, adapter.name)]
            _check(adapter, f"{module}.bias", bias.shape, parameter.shape, same=bias.shape == tuple(parameter.shape))
            parameter.add_(torch.from_numpy(np.ascontiguousarray(bias, np.float32)))


def _check(adapter: Adapter, name: str, shape: Sequence[int], other: Sequence[int], *, same: bool) -> None:
    if not same:
        raise PlanError(
            f"its change of {name!r} is {' x '.join(map(str, shape))}, and the base has {' x '.join(map(str, other))} there",
            where=adapter.name,
            hint="is this the base it was trained on?",
        )
