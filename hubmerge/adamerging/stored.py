"""float32 tensors that the descent reads again and again: in memory, or in a temporary file that the system keeps there as far as it can."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Stored"]


class Stored:
    """Tensors by name.

    shapes: of every tensor.  folder: where the temporary file is, which `stack` closes; None: in memory.
    """

    def __init__(self, shapes: Mapping[str, tuple[int, ...]], folder: Path | None, stack: ExitStack) -> None:
        size = sum(math.prod(shape) for shape in shapes.values())
        flat: Any
        if folder is None or not size:
            flat = np.zeros(size, np.float32)
        else:
            file = stack.enter_context(TemporaryFile(dir=folder))  # noqa: SIM115 - the stack closes it
            flat = np.memmap(file, np.float32, "w+", shape=(size,))
        self._arrays: dict[str, npt.NDArray[np.float32]] = {}
        start = 0
        for name, shape in shapes.items():
            stop = start + math.prod(shape)
            self._arrays[name] = flat[start:stop].reshape(shape)
            start = stop

    def put(self, name: str, values: npt.NDArray[np.float32]) -> None:
        """Keep the numbers of one tensor."""
        self._arrays[name][...] = values

    def array(self, name: str) -> npt.NDArray[np.float32]:
        """One tensor, the memory itself."""
        return self._arrays[name]

    def tensor(self, name: str) -> Tensor:
        """The same for torch."""
        import torch

        found: Tensor = torch.from_numpy(self._arrays[name])
        return found
