"""Products of two thin matrices without ever building them: the singular values, and the best factors of a smaller rank."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hubmerge.lora.adapter import Factors

__all__ = ["Reduced", "Triplets", "orthonormal", "reduced", "triplets", "upper_factor"]

Floats = NDArray[np.float64]
Triplets = tuple[Floats, Floats, Floats]
"""Left singular vectors (out, k), singular values (k,) and right singular vectors (k, in)."""

_NOISE = 1e-12
"""Singular values below this share of the largest are rounding."""


@dataclass(frozen=True)
class Reduced:
    """Factors of some rank, float32, balanced: both have the same singular values.

    energy: the share of the sum of squares of the product that they have, from 0 to 1; 1 for a product that is 0.
    """

    factors: Factors
    energy: float


def upper_factor(values: Floats) -> Floats:
    """R of the thin QR decomposition of (rows, columns), (k, columns)."""
    import torch  # its QR takes a quarter of numpy's time

    found: Floats = torch.linalg.qr(torch.from_numpy(np.ascontiguousarray(values)), mode="r")[1].numpy()
    return found


def orthonormal(values: Floats) -> tuple[Floats, Floats]:
    """Q, (rows, k), and R, (k, columns), of the thin QR decomposition."""
    import torch

    left, upper = torch.linalg.qr(torch.from_numpy(np.ascontiguousarray(values)))
    return left.numpy(), upper.numpy()


def triplets(b: Floats, a: Floats) -> Triplets:
    """The singular value decomposition of ``b @ a``: (out, k), (k,) descending, (k, in), k the smallest of rank and sizes.

    b: (out, rank), a: (rank, in).  Thin QR of both and a decomposition of (rank, rank): O((out + in) rank^2).
    """
    left, upper = orthonormal(b)
    right, lower = orthonormal(a.T)
    u, values, v = np.linalg.svd(upper @ lower.T, full_matrices=False)
    return left @ u, values, v @ right.T


def reduced(decomposed: Triplets, rank: int | None = None) -> Reduced:
    """A decomposed product as factors of at most `rank`, the nearest there are in the Frobenius norm; None keeps its numerical rank.

    At least one row is kept, also of a product that is 0.
    """
    u, values, v = decomposed
    whole = max(1, int((values > _NOISE * values[0]).sum()))
    kept = whole if rank is None else min(rank, whole)
    total = float((values**2).sum())
    energy = float((values[:kept] ** 2).sum()) / total if total else 1.0
    root = np.sqrt(values[:kept])
    a, b = root[:, None] * v[:kept], u[:, :kept] * root
    return Reduced(Factors(a.astype(np.float32), b.astype(np.float32)), energy)
