"""Units of all models contracted, the most alike first, within a model too: ZipIt (Stoica et al. 2024, arXiv:2305.03053).

Differs from it: a budget counts every contraction that brings two units of one model together, and is lifted where else nothing could be
contracted; a unit that was contracted is less alike than it was only to units of models that it has units of, and only where it is
alike at all; units that do not vary on the data are quite alike across models.  The paper also runs the last layers of every model
apart, which a checkpoint of the same architecture cannot; a share of every group's units is kept apart by a wider merge.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hubmerge.heterogeneous.maps import Soft

__all__ = ["contracted", "zipped"]

Floats = NDArray[np.float64]

_AGAIN = 0.3
"""What is left of the likeness of two units that would bring more units of one model together: the published code's alpha."""
_WITHIN = 0.125
"""Of the contractions that are as many for each model, the share that may be within it: the published code's beta."""


def zipped(alike: Floats, sizes: Sequence[int], wanted: int, *, signed: bool) -> tuple[Soft, ...]:
    """A map for every parent: a merged unit is the mean of the units that were contracted to it, and each of these reads it whole.

    Arguments as for `contracted`.  Merged units stand in the order of the first of theirs, the base's before the others'.
    """
    first, sign = contracted(alike, sizes, wanted, signed=signed)
    _, place, counts = np.unique(first, return_inverse=True, return_counts=True)
    decode = np.zeros((len(first), len(counts)))
    decode[np.arange(len(first)), place] = sign
    parts = np.split(decode, np.cumsum(sizes)[:-1])
    return tuple(Soft(part.T / counts[:, None], part) for part in parts)


def contracted(alike: Floats, sizes: Sequence[int], wanted: int, *, signed: bool) -> tuple[NDArray[np.int64], Floats]:
    """For every unit the first one of those that it is one with, and its sign there.

    alike: correlations of the units of all models, one model's after the other's, (units, units), with their own on the diagonal, 0
    for a unit that does not vary.  sizes: of the models.  wanted: how many units are to be left, from the most of one model on.
    signed: whether units of opposite signs are alike.
    """
    work = _Contraction(alike, sizes, wanted, signed=signed)
    for _ in range(len(alike) - wanted):
        work.contract()
    return work.first, work.sign


class _Contraction:
    """What is alike after some contractions; rows and columns of units that are another's part are gone (-inf)."""

    def __init__(self, alike: Floats, sizes: Sequence[int], wanted: int, *, signed: bool) -> None:
        units, models = len(alike), len(sizes)
        self.first = np.arange(units)
        self.sign = np.ones(units)
        self._turn = np.where(signed & (alike < 0), -1.0, 1.0)
        self._has = np.eye(models, dtype=bool)[np.repeat(np.arange(models), sizes)]
        self._alike = np.abs(alike) if signed else alike.copy()
        still = np.diagonal(alike) == 0
        across = ~(self._has @ self._has.T)
        self._alike[np.outer(still, still) & across] = 1.0
        np.fill_diagonal(self._alike, -np.inf)
        share = (units - wanted) // models * _WITHIN
        self._budget = [int(share) + max(0, size - wanted) for size in sizes]
        self._open = self._alike.copy()
        for model in range(models):
            self._close(model)
        self._best = self._open.argmax(1)

    def _close(self, model: int) -> None:
        """Where its budget is spent, two units that both have some of this model's are not contracted."""
        if self._budget[model] <= 0:
            own = self._has[:, model]
            self._open[np.outer(own, own)] = -np.inf

    def contract(self) -> None:
        """Make the two units one that are most alike of those that may be."""
        p, q = self._most_alike()
        shared = np.flatnonzero(self._has[p] & self._has[q]).tolist()
        self.sign[self.first == q] *= self._turn[p, q]
        self.first[self.first == q] = p
        self._has[p] |= self._has[q]
        again = (self._has & self._has[p]).any(1)
        for table in (self._alike, self._open):
            both = np.minimum(table[p], table[q])
            both = np.where(again & (both > 0), both * _AGAIN, both)
            both[[p, q]] = -np.inf
            table[p], table[:, p] = both, both
            table[q], table[:, q] = -np.inf, -np.inf
        stale = np.isin(self._best, (p, q))
        stale[p] = True
        for model in shared:
            self._budget[model] -= 1
            self._close(model)
            stale |= self._budget[model] == 0
        self._best[stale] = self._open[stale].argmax(1)

    def _most_alike(self) -> tuple[int, int]:
        worth = self._open[np.arange(len(self._best)), self._best]
        if np.isneginf(worth).all():  # budgets leave nothing: they are lifted
            self._open = self._alike.copy()
            self._budget = [len(worth)] * len(self._budget)
            self._best = self._open.argmax(1)
            worth = self._open[np.arange(len(self._best)), self._best]
        i = int(worth.argmax())
        return min(i, int(self._best[i])), max(i, int(self._best[i]))
