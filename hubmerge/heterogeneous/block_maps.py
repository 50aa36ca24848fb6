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
        self._sums: list[list[Tensor]] = [[], []]
        self._own: list[list[Tensor]] = [[], []]
        self._cross: list[list[Tensor]] = []

    def add(self, ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> None:
        """ours, theirs: (rows, channels) of every block, all with the same rows."""
        import torch

        both = [[each.to(torch.float64) for each in values] for values in (ours, theirs)]
        for side, values in enumerate(both):
            _add(self._sums[side], (each.sum(0) for each in values))
            _add(self._own[side], (each.T @ each for each in values))
        self._cross = self._cross or [[] for _ in both[0]]
        for x, total in zip(both[0], self._cross, strict=True):
            _add(total, (x.T @ y for y in both[1]))
        self._rows += len(both[0][0])

    def values(self) -> Floats:
        """(blocks of the first, blocks of the second), from 0 to 1; 0 for a block that always gives the same."""
        norms = [
            [
                float((own - total.outer(total) / self._rows).norm())
                for own, total in zip(self._own[side], self._sums[side], strict=True)
            ]
            for side in (0, 1)
        ]
        found = np.zeros((len(norms[0]), len(norms[1])))
        for i, j in np.ndindex(*found.shape):
            scale = norms[0][i] * norms[1][j]
            if scale > _LEAST:
                means = self._sums[0][i].outer(self._sums[1][j]) / self._rows
                found[i, j] = float((self._cross[i][j] - means).square().sum()) / scale
        return found


_LEAST = 1e-12


def _add(totals: list[Tensor], new: Iterable[Tensor]) -> None:
    """Add to the totals where they are; one of the new ones is held at a time."""
    begun = bool(totals)
    for i, each in enumerate(new):
        if begun:
            totals[i].add_(each)
        else:
            totals.append(each)


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
