"""What a parent adds to one tensor of the base: a delta of the tensor's shape, or two thin matrices whose product is never built."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Change", "Thin", "Whole"]


class Change(Protocol):
    """What is added to a tensor, all float32."""

    def add_to(self, values: Tensor, share: float) -> None:
        """Add `share` times the change to `values`, of the tensor's shape, in their own memory."""

    def dot(self, gradient: Tensor) -> float:
        """The inner product with a gradient of the tensor's shape."""


@dataclass(frozen=True, eq=False)
class Whole:
    """values: the change itself."""

    values: Tensor

    def add_to(self, values: Tensor, share: float) -> None:
        values.add_(self.values, alpha=share)

    def dot(self, gradient: Tensor) -> float:
        import torch

        return float(torch.dot(gradient.reshape(-1), self.values.reshape(-1)))


@dataclass(frozen=True, eq=False)
class Thin:
    """``left @ right``, (rows, rank) and (rank, columns), of a tensor flattened to (rows, columns)."""

    left: Tensor
    right: Tensor

    def add_to(self, values: Tensor, share: float) -> None:
        values.view(self.left.shape[0], -1).addmm_(self.left, self.right, alpha=share)

    def dot(self, gradient: Tensor) -> float:
        # <G, L R> is <L' G, R>, which has rank * columns entries
        flat = gradient.reshape(self.left.shape[0], -1)
        return float(((self.left.T @ flat) * self.right).sum())
