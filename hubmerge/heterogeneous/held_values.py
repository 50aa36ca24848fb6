"""Values with tensors in them, as a module is given and gives them: how much they hold, and the same on the disk."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hubmerge.heterogeneous.scratch import Scratch

__all__ = ["bytes_held", "held_on_disk"]

_LEAST = 2**14
"""Bytes of a tensor below which it stays in memory."""


def bytes_held(values: Any) -> int:
    """Of the tensors in tuples, lists and dicts, however deep."""
    from torch import Tensor

    if isinstance(values, Tensor):
        return values.numel() * values.element_size()
    if isinstance(values, dict):
        values = tuple(values.values())
    return sum(map(bytes_held, values)) if isinstance(values, (tuple, list)) else 0


def held_on_disk(values: Any, scratch: Scratch) -> Any:
    """The same values, large tensors in them with pages that the system may write to the disk."""
    from torch import Tensor

    if isinstance(values, Tensor):
        return scratch.copied(values) if bytes_held(values) >= _LEAST else values
    if type(values) is dict:
        return {name: held_on_disk(each, scratch) for name, each in values.items()}
    if type(values) in {tuple, list}:
        return type(values)(held_on_disk(each, scratch) for each in values)
    return values
