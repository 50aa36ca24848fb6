"""Coordinates of adapters behind the faces of a model's tensors, computed when the engine reads them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from hubmerge.in_memory_tensors import StateDict
from hubmerge.lora.spaces import Space

__all__ = ["Coordinates", "zeros"]


class Coordinates(StateDict):
    """One adapter's coordinates, module by module, as float32 tensors of the basis' shapes.

    Nothing is held but the spaces: a tensor is made when it is read.
    """

    def __init__(self, name: str, spaces: Mapping[str, Space], place: int) -> None:
        super().__init__(name, {module: _empty(space.shape) for module, space in spaces.items()})
        self._spaces = spaces
        self._place = place

    def bytes_of(self, name: str) -> npt.NDArray[np.uint8]:
        values = self._spaces[name].coordinates(self._place).astype(np.float32)
        return np.ascontiguousarray(values).reshape(-1).view(np.uint8)

    def is_as_stored(self, name: str) -> bool:  # noqa: ARG002 - none is there before it is read
        return False


def zeros(name: str, spaces: Mapping[str, Space]) -> StateDict:
    """The base that all coordinates are changes of: nothing."""
    return StateDict(name, {module: _empty(space.shape) for module, space in spaces.items()})


def _empty(shape: tuple[int, int]) -> Any:
    """A tensor of zeros that takes no memory."""
    return np.broadcast_to(np.float32(0), shape)
