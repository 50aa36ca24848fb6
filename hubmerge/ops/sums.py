"""Sums over one entry's parents."""

from __future__ import annotations

from collections.abc import Sequence

from numba.extending import register_jitable
from numpy import float32

__all__ = ["weighted_sum"]


@register_jitable  # type: ignore[untyped-decorator]
def weighted_sum(entries: Sequence[float32], coefficients: Sequence[float32]) -> float32:
    """The sum of ``coefficient * entry`` over the parents, in their order, in float32."""
    total = float32(0)
    for entry, coefficient in zip(entries, coefficients):
        total += entry * coefficient
    return total
