"""Which block of a donor goes with which block of the base: linear CKA of what they compute, and the best map that keeps the order."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["CKA", "even_pairs", "monotone_map", "most_pairs"]

Floats = NDArray[np.float64]


class CKA:
    """Linear centred kernel alignment of every block of one model with every block of another, added up batch by batch in float64.

    Source: Kornblith et al. 2019, arXiv:1905.00414, equation 4: ||Y'X||^2 / (||X'X|| ||Y'Y||) of centred features, a row for each place
    of an image or token.  Held are the products of all pairs: blocks times blocks times width times width numbers.
    """

    def __init__(self) -> None:
        self._rows = 0
        self._sums: dict[tuple[int, int], Tensor] = {}
        self._own: dict[tuple[int, int], Tensor] = {}
        self._cross: dict[tuple[int, int], Tensor] = {}

    def add(self, ours: Iterable[Tensor], theirs: Sequence[Tensor]) -> None:
        """ours, theirs: (rows, channels) of every block, all with the same rows; one of ours is held at a time."""
        self.add_theirs(theirs)
        for i, values in enumerate(ours):
            self.add_ours(i, values, theirs)

    def add_theirs(self, theirs: Sequence[Tensor]) -> None:
        """A batch of the second model's blocks, to which each of the first's is added then."""
        self._rows += len(theirs[0])
        self._add_own(1, range(len(theirs)), theirs)

    def add_ours(self, i: int, ours: Tensor, theirs: Sequence[Tensor]) -> None:
        """The same batch of the first model's `i`-th block; theirs: as they were added."""
        import torch

        self._add_own(0, (i,), (ours,))
        x = ours.to(torch.float64)
        for j, values in enumerate(theirs):
            _add(self._cross, (i, j), x.T @ values.to(torch.float64))

    def _add_own(self, side: int, numbers: Iterable[int], blocks: Iterable[Tensor]) -> None:
        import torch

        for number, values in zip(numbers, blocks, strict=True):
            x = values.to(torch.float64)
            _add(self._sums, (side, number), x.sum(0))
            _add(self._own, (side, number), x.T @ x)

    def values(self) -> Floats:
        """(blocks of the first, blocks of the second), from 0 to 1; 0 for a block that always gives the same."""
        norms = {
            place: float((own - self._sums[place].outer(self._sums[place]) / self._rows).norm())
            for place, own in self._own.items()
        }
        sizes = [sum(side == own for side, _ in norms) for own in (0, 1)]
        found = np.zeros(sizes)
        for (i, j), cross in self._cross.items():
            scale = norms[0, i] * norms[1, j]
            if scale > _LEAST:
                means = self._sums[0, i].outer(self._sums[1, j]) / self._rows
                found[i, j] = float((cross - means).square().sum()) / scale
        return found


_LEAST = 1e-12


def _add(totals: dict[tuple[int, int], Tensor], place: tuple[int, int], new: Tensor) -> None:
    """Add to the total where it is."""
    if place in totals:
        totals[place].add_(new)
    else:
        totals[place] = new


def monotone_map(worth: Floats, least: float = 0.0) -> tuple[int, ...]:
    """For every row its column, or -1: the partial map that keeps the order and makes the sum of ``worth - least`` largest.

    worth: (rows, columns); minus infinity where a pair is impossible.  V[i, j] = max(V[i-1, j-1] + worth[i, j] - least, V[i-1, j],
    V[i, j-1]); of equal ones the pair is preferred.
    """
    rows, columns = worth.shape
    best = np.zeros((rows + 1, columns + 1))
    for i in range(1, rows + 1):
        for j in range(1, columns + 1):
            pair = best[i - 1, j - 1] + worth[i - 1, j - 1] - least
            best[i, j] = max(pair, best[i - 1, j], best[i, j - 1])
    found = [-1] * rows
    i, j = rows, columns
    while i and j:
        if best[i, j] == best[i - 1, j - 1] + worth[i - 1, j - 1] - least:
            found[i - 1] = j - 1
            i, j = i - 1, j - 1
        elif best[i, j] == best[i - 1, j]:
            i -= 1
        else:
            j -= 1
    return tuple(found)


def even_pairs(possible: NDArray[np.bool_]) -> tuple[int, ...]:
    """For every block of the base the donor's, or -1: as many pairs as there can be, those that lie alike in the depth.

    possible: (base's blocks, donor's), which are built alike.
    """
    rows, columns = (np.linspace(0, 1, count) if count > 1 else np.zeros(1) for count in possible.shape)
    return most_pairs(1 - np.abs(rows[:, None] - columns), possible)


def most_pairs(worth: Floats, possible: NDArray[np.bool_]) -> tuple[int, ...]:
    """The map that keeps the order with the most pairs, of these the one of the largest sum of `worth`, from 0 to 1.

    Of blocks that are worth the same the earlier is taken: a block that gives what it is given is as like another as the one before it.
    """
    rows, columns = np.indices(possible.shape)
    return monotone_map(np.where(possible, worth - _LATER * (rows + columns), -np.inf), -1.0 - min(possible.shape))


_LATER = 1e-6
"""More than CKAs of the same features differ by, and less than those of others."""
