"""Sums over one entry's parents, and over the numbers of a row or of a block, whose order is fixed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy import float32

from hubmerge.jit import jitable

__all__ = ["in_order", "total_of", "weighted_sum"]

_LANES = 64


@jitable
def weighted_sum(entries: Sequence[float32], coefficients: Sequence[float32]) -> float32:
    """The sum of ``coefficient * entry`` over the parents, in their order, in float32."""
    total = float32(0)
    for entry, coefficient in zip(entries, coefficients):
        total += entry * coefficient
    return total


@jitable
def in_order(numbers: Any) -> Any:
    """The sum of float64 numbers, one after the other: of the interleaved sums that a pass ends with."""
    total = 0.0
    for i in range(numbers.size):
        total += numbers[i]
    return total


@jitable
def total_of(values: Any) -> Any:
    """The sum of float64 numbers in a fixed order: 64 interleaved sums, added one after the other."""
    lanes = np.zeros(_LANES)
    whole = values.size // _LANES * _LANES
    for low in range(0, whole, _LANES):
        part = values[low : low + _LANES]
        for j in range(_LANES):
            lanes[j] += part[j]
    for j in range(values.size - whole):
        lanes[j] += values[whole + j]
    return in_order(lanes)
