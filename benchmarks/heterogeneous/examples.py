"""`Examples`: inputs with their labels, be they images or texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Examples"]


@dataclass(frozen=True)
class Examples:
    """inputs: images, float32 of shape (n, 1, side, side), -1 for paper and 1 for full ink; or texts, int64 of shape (n, length), the
    numbers of their words.  labels: int64 of shape (n,).
    """

    inputs: npt.NDArray[Any]
    labels: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: npt.NDArray[np.int64]) -> Examples:
        return Examples(self.inputs[rows], self.labels[rows])

    def only(self, labels: Sequence[int]) -> Examples:
        """Those that have one of `labels`, in the same order."""
        return self.take(np.flatnonzero(np.isin(self.labels, labels)))
