"""What a method may ask about a whole tensor before its entries are merged: the questions, without how they are answered.

Every answer depends on the tensors alone: not on chunks, shards, threads or the order of reading.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, Self

import numpy as np
import numpy.typing as npt

__all__ = ["Array", "Measure", "PerGroup", "Ranks"]

Array = npt.NDArray[Any]

Ranks = Sequence[Sequence[int]] | Callable[[tuple[int, ...]], Sequence[Sequence[int]]]
"""For every score the wanted ranks, 1 the largest; or a function that gives them, told how many of each are not zero."""


@dataclass(frozen=True)
class PerGroup:
    """An argument of a rule that every row or column of a tensor has its own values of.

    table: float32 (groups, width); the rule is handed the entry's line of it as a tuple.  by "row": a group is a row along
    the last dimension, so that a tensor of one dimension is one row; "column": all entries that differ in the first index.
    """

    table: Array
    by: Literal["row", "column"] = "row"


class Measure(Protocol):
    """One tensor of every parent, or all tensors of a pool, as a method's stage and rule see it: weights or deltas.

    A method that works on deltas is told of deltas, and the rule behind a stage of the deltas that it leaves.
    """

    @property
    def entries(self) -> int:
        """How many entries each parent has."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The tensor's shape; a pool has ``(entries,)``."""

    @property
    def parents(self) -> int:
        """How many parents there are."""

    @property
    def keys(self) -> tuple[np.uint64, ...]:
        """One number per parent for random methods: a hash of the recipe's seed, the parent's place and the tensor's name."""

    @property
    def pooled(self) -> Any:
        """What the stage found for the pool that this tensor belongs to; None when it is measured alone."""

    def gram(self) -> Array:
        """Inner products of the parents' operands, float64 (parents, parents).  One pass."""

    def without(self, shared: Sequence[float], taken: Sequence[float]) -> Self:
        """The same of deltas without what they share: ``delta - taken * sum(shared * delta)``, one number for each parent.

        Of a pool, or of one tensor without a stage; for `gram` and `ranked`.
        """

    def gram_rows(self) -> Array:
        """The same for every row along the last dimension, float64 (rows, parents, parents).  One pass."""

    def gram_columns(self) -> Array:
        """The same for every column, which is what differs in the first index alone.  One pass."""

    def rows(self, rule: Callable[..., None], width: int) -> Array:
        """A table with a line for every row along the last dimension, float64 (rows, width).  One pass.

        rule: ``(base, parents, line)``, compiled, fills `line` from one row's weights (not deltas): base is float32
        (columns,), the first parent's where there is no base model, parents float32 (parents, columns).
        """

    def ranked(self, ranks: Ranks, score: Callable[..., Any] | None = None, *arguments: Any) -> tuple[Array, ...]:
        """The exact k-th largest magnitudes: for every score a float32 array, one number per asked rank.  At most two passes.

        score: ``(entries, *arguments) -> float32``, compiled, one score for all parents; without it every parent's operand is
        its own.  The first argument may be a `PerGroup`.  A rank above the number of entries gives 0, one below 1 infinity.
        """

    def sums(self, rule: Callable[..., Any], *arguments: Any) -> tuple[float, ...]:
        """The sums of a rule's numbers over all entries, in float64.  One pass.

        rule: ``(entries, *arguments) -> tuple of float32``, compiled, of as many numbers as there are parents.
        """

    def kept(
        self, rule: Callable[..., Any], states: Sequence[tuple[Any, ...]], per: Literal["entry", "row"] = "entry"
    ) -> tuple[tuple[float, float], ...]:
        """For every parent the sum of its magnitudes before and after a stage's rule, float64.  One pass.

        For stages: the measure of what comes behind one is not asked this.
        """
