"""What correlations are made of: sums over rows of two models' channels, and the tables that come of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Correlation", "Sums"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Correlation:
    """Of every unit of the base with every unit of another model, the mean over the views of the group.

    plain: (size, other's size), of a group that stands alone.  nested: by the inner group, (size, inner size, other's size, other's
    inner size), of a group with others inside, as heads are.  between: by the group between and the innermost one, (size, between,
    innermost, other's size, other's between, other's innermost), as where query heads share a key-value head's features.
    """

    plain: Floats
    nested: Mapping[str, Floats]
    between: Mapping[tuple[str, str], Floats] = field(default_factory=dict)


class Sums:
    """What a correlation is made of, added up in float64; products in float32 of what was centred by the first batch's means."""

    def __init__(self) -> None:
        self._rows = 0
        self._centres: tuple[Tensor, Tensor] | None = None
        self._sums: list[Tensor] = []

    def add(self, ours: Tensor, theirs: Tensor) -> None:
        import torch

        if self._centres is None:
            self._centres = ours.mean(0), theirs.mean(0)
        x, y = ours - self._centres[0], theirs - self._centres[1]
        new = (x.sum(0), y.sum(0), x.square().sum(0), y.square().sum(0), x.T @ y)
        self._sums = self._sums or [torch.zeros_like(each, dtype=torch.float64) for each in new]
        for total, each in zip(self._sums, new, strict=True):
            total.add_(each)
        self._rows += len(x)

    def correlation(self) -> Floats:
        """Of everything that was added; once, since the sums are overwritten."""
        x, y, xx, yy, covariance = (each.div_(self._rows).numpy() for each in self._sums)
        self._sums = []
        scale = np.sqrt(np.maximum(xx - x**2, 0)[:, None] * np.maximum(yy - y**2, 0)[None, :])
        covariance -= np.outer(x, y)
        found: Floats = np.divide(covariance, scale, out=np.zeros_like(covariance), where=scale > _LEAST)
        return found


_LEAST = 1e-12
