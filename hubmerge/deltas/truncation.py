"""The leading singular triplets of a matrix: all of them cut, or as many as are wanted by a randomised range finder.

Source: Halko, Martinsson and Tropp 2011, Finding structure with randomness, arXiv:0909.4061, algorithms 4.4 and 5.1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import torch

__all__ = ["Solver", "Truncated", "truncated"]

Solver = Literal["auto", "exact", "randomised"]
Floats = npt.NDArray[np.float64]

_SMALL = 512
"""Smaller side up to which all triplets are found: it takes a fraction of a second."""
_WORTH = 4
"""The randomised solver is taken while a matrix has this many times the directions that are looked for."""
_MORE = 10
"""Directions beside those that are wanted."""
_POWERS = 4
"""Rounds of power iteration: the spectrum of a delta falls slowly."""
_DOUBLE = 1024
"""Smaller side up to which all triplets are found in float64."""
_ROUNDING = 1e-7
"""Singular values below this share of the largest are rounding of float32."""
_FIRST = 32
"""Directions that are tried first where a share of the sum of squares is wanted."""


@dataclass(frozen=True)
class Truncated:
    """left (out, k), values (k,) descending, right (k, in), float64.

    squares: the matrix' sum of squares, of which the values have `energy`; 1 for a matrix of zeros.
    """

    left: Floats
    values: Floats
    right: Floats
    squares: float
    solver: Literal["exact", "randomised"]

    @property
    def rank(self) -> int:
        return int(self.values.size)

    @property
    def energy(self) -> float:
        return min(1.0, float((self.values**2).sum()) / self.squares) if self.squares else 1.0


def truncated(matrix: torch.Tensor, rank: int | None, energy: float | None, solver: Solver, seed: int) -> Truncated:
    """The leading triplets of a float32 matrix: `rank` of them at most, and no more than have the share `energy` of its sum of squares.

    solver: "auto" chooses by size: exact up to a smaller side of 512, and where a quarter of the directions or more are wanted.
    seed: of the randomised one.  The values are those of the matrix' projection on the directions found, so that `Truncated.energy` is
    what is kept, not what would be kept at best.  At least one triplet is kept, and none that is rounding.
    """
    import torch

    side = min(matrix.shape)
    squares = float(torch.linalg.vector_norm(matrix, dtype=torch.float64)) ** 2
    wanted = side if rank is None else min(rank, side)
    if solver == "exact" or (solver == "auto" and side <= _SMALL):
        return _cut(_exact(matrix), wanted, energy, squares, "exact")
    size = min(side, wanted + _MORE if energy is None else _FIRST)
    while True:
        if solver == "auto" and size * _WORTH > side:
            return _cut(_exact(matrix), wanted, energy, squares, "exact")
        parts = _randomised(matrix, size, seed)
        enough = energy is None or float((parts[1] ** 2).sum()) >= energy * squares
        if enough or size >= min(side, wanted + _MORE):
            return _cut(parts, wanted, energy, squares, "randomised")
        size = min(side, 2 * size)


def _exact(matrix: torch.Tensor) -> tuple[Floats, Floats, Floats]:
    import torch

    left, values, right = torch.linalg.svd(
        matrix.double() if min(matrix.shape) <= _DOUBLE else matrix, full_matrices=False
    )
    return left.double().numpy(), values.double().numpy(), right.double().numpy()


def _randomised(matrix: torch.Tensor, size: int, seed: int) -> tuple[Floats, Floats, Floats]:
    import torch

    random = torch.Generator().manual_seed(seed)
    basis = torch.linalg.qr(matrix @ torch.randn(matrix.shape[1], size, generator=random))[0]
    for _ in range(_POWERS):
        basis = torch.linalg.qr(matrix.T @ basis)[0]
        basis = torch.linalg.qr(matrix @ basis)[0]
    left, values, right = torch.linalg.svd((basis.T @ matrix).double(), full_matrices=False)
    return (basis.double() @ left).numpy(), values.numpy(), right.numpy()


def _cut(
    parts: tuple[Floats, Floats, Floats],
    wanted: int,
    energy: float | None,
    squares: float,
    solver: Literal["exact", "randomised"],
) -> Truncated:
    left, values, right = parts
    kept = min(wanted, max(1, int((values > _ROUNDING * values[0]).sum())))
    if energy is not None:
        reached = np.cumsum(values**2) >= energy * squares
        kept = min(kept, int(reached.argmax()) + 1) if reached.any() else kept
    return Truncated(left[:, :kept], values[:kept], right[:kept], squares, solver)
