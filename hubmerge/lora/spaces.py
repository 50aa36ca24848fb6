"""The two bases in which adapters are merged without building their changes: KnOTS' shared output basis and the core space.

In either a module's change is a small matrix for each adapter, any method on deltas merges these, and the merged one goes back
to factors.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from hubmerge.adapter_words import Basis
from hubmerge.lora.low_rank import Triplets, orthonormal, upper_factor
from hubmerge.lora.stacks import Stack

__all__ = ["SPACES", "Core", "Knots", "Space"]

Floats = NDArray[np.float64]

_LEAST = 1e-5
"""Singular values up to this are left out of the shared basis, as KnOTS' own code does; where the largest is below 1, up to this share
of it, or small changes would be lost."""


class Space(Protocol):
    """One module's basis.  shape: of the coordinates of every adapter."""

    @property
    def shape(self) -> tuple[int, int]: ...

    def coordinates(self, place: int) -> Floats:
        """The change of adapter `place`, in this basis; zeros where it leaves the module alone."""
        ...

    def back(self, merged: Floats) -> Triplets:
        """The singular value decomposition of the change whose coordinates are `merged`."""
        ...


@dataclass(frozen=True)
class Knots:
    """Coordinates in the left singular vectors U of all changes side by side, [D_1 ... D_T] = U S [V_1' ... V_T'].

    Adapter t has S V_t', (k, in).  Stoica et al. 2024, KnOTS, arXiv:2410.19735, section 4; S stays in the coordinates.  The dense
    changes are never built: U' D_t = (U' B_t) A_t.  Signs of U do not matter to any method; where singular values are equal their
    vectors are not determined, and neither is a merge entry by entry.

    small: U in the basis of Q, where [B_1 ... B_T] = Q R, (rank, k).  turns: U' [B_1 ... B_T], (k, sum of ranks).
    """

    stack: Stack
    small: Floats
    turns: Floats

    @classmethod
    def of(cls, stack: Stack) -> Knots:
        """The basis of a module's changes, without directions as weak as `_LEAST` says; one is always kept."""
        upper = upper_factor(stack.b())
        blocks = [
            upper[:, columns] @ upper_factor(part.a.astype(np.float64).T).T
            for part, columns in zip(stack.parts, stack.columns, strict=True)
            if part is not None
        ]
        u, values, _ = np.linalg.svd(np.concatenate(blocks, axis=1), full_matrices=False)
        kept = max(1, int((values > _LEAST * min(1.0, float(values[0]))).sum()))
        return cls(stack, u[:, :kept], u[:, :kept].T @ upper)

    @property
    def shape(self) -> tuple[int, int]:
        return self.turns.shape[0], self.stack.shape[1]

    def coordinates(self, place: int) -> Floats:
        part = self.stack.parts[place]
        if part is None:
            return np.zeros(self.shape)
        return self.turns[:, self.stack.columns[place]] @ part.a.astype(np.float64)

    def back(self, merged: Floats) -> Triplets:
        # Q is made again: kept for all modules it would be as large as the adapters are
        left = orthonormal(self.stack.b())[0] @ self.small
        right, lower = orthonormal(merged.T)
        u, values, v = np.linalg.svd(lower.T, full_matrices=False)
        return left @ u, values, v @ right.T


@dataclass(frozen=True)
class Core:
    """Coordinates in the singular bases of the stacked factors: U_B of [B_1 ... B_T], V_A of [A_1; ...; A_T].

    Adapter t has (U_B' B_t)(A_t V_A), (k, l).  Core Space, arXiv:2509.17786: nothing is lost, and linear merges are those of the dense
    changes.  Scales are in B_t before the stacking.
    """

    stack: Stack
    left: Floats
    right: Floats

    @classmethod
    def of(cls, stack: Stack) -> Core:
        """The bases of a module's factors, their numerical null spaces left in: nothing that an adapter has is there."""
        return cls(stack, _left_vectors(stack.b()), _left_vectors(stack.a().T).T)

    @property
    def shape(self) -> tuple[int, int]:
        return self.left.shape[1], self.right.shape[0]

    def coordinates(self, place: int) -> Floats:
        part = self.stack.parts[place]
        if part is None:
            return np.zeros(self.shape)
        return part.scale * (self.left.T @ part.b.astype(np.float64)) @ (part.a.astype(np.float64) @ self.right.T)

    def back(self, merged: Floats) -> Triplets:
        u, values, v = np.linalg.svd(merged, full_matrices=False)
        return self.left @ u, values, v @ self.right


def _left_vectors(values: Floats) -> Floats:
    left, upper = orthonormal(values)
    found: Floats = left @ np.linalg.svd(upper, full_matrices=False)[0]
    return found


SPACES: Mapping[Basis, Callable[[Stack], Space]] = MappingProxyType({"knots": Knots.of, "core": Core.of})
