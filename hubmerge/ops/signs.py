"""Sign election for one entry."""

from __future__ import annotations

from collections.abc import Sequence

from numpy import float32

from hubmerge.jit import jitable

__all__ = ["elected_sign"]


@jitable
def elected_sign(deltas: Sequence[float32], votes: Sequence[float32], undecided: float32) -> float32:
    """+1 or -1: the sign of the sum of one entry's deltas, each times its parent's votes; `undecided` for a sum of exactly 0.

    It is a function of its own because the compiler then unrolls it over eight parents and more; written out inside
    the rule, the same loop was ten times slower at eight parents.
    """
    total = float32(0)
    for delta, vote in zip(deltas, votes):
        total += delta * vote
    return float32(1) if total > 0 else float32(-1) if total < 0 else undecided
