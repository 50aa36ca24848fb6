"""Copies of models: that share the weights of what they are copied from, or that have numbers of their own."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["own_copy", "sharing_copy", "with_tensors"]


def sharing_copy(model: Any) -> Any:
    """A copy whose parameters are the model's own, and whose buffers, as BatchNorm's statistics, are its own."""
    return copy.deepcopy(model, {id(each): each for each in model.parameters()})


def own_copy(model: Any) -> Any:
    """A copy that shares nothing; parameters that are two of the model are two of the copy, also where they share their numbers."""
    from torch import nn

    fresh = {
        id(each): nn.Parameter(each.detach().clone(), requires_grad=each.requires_grad) for each in model.parameters()
    }
    return copy.deepcopy(model, fresh)


def with_tensors(model: Any, tensors: Mapping[str, Tensor]) -> Any:
    """A copy with these tensors, by the names of `state_dict`; it shares those parameters with them, and all others with the model."""
    from torch import nn

    found = sharing_copy(model)
    parameters = dict(found.named_parameters(remove_duplicate=False))
    buffers = dict(found.named_buffers(remove_duplicate=False))
    for name, values in tensors.items():
        if name in buffers:
            buffers[name].copy_(values)
        elif values.data_ptr() != parameters[name].data_ptr():
            place, _, own = name.rpartition(".")
            before = parameters[name]
            new = nn.Parameter(values.to(before.dtype), requires_grad=before.requires_grad)
            setattr(found.get_submodule(place), own, new)
    return found
