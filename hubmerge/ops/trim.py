"""Stages that decide which entries of a delta survive."""

from __future__ import annotations

from numpy import float32

from hubmerge.method import Stage

__all__ = ["keep_large", "trim_by_magnitude"]


def keep_large(delta: float32, index: int, state: tuple[float32]) -> float32:  # noqa: ARG001 - every stage is given the index
    """`delta` when its magnitude is at least ``state[0]``, else 0."""
    return delta if abs(delta) >= state[0] else float32(0)


def trim_by_magnitude(parameter: str) -> Stage:
    """Keep the largest entries of each delta of each tensor: a share `parameter` of them.

    The threshold is the exact k-th largest magnitude with k = max(1, int(share * entries)).  Entries that tie with the
    k-th all survive, so that the outcome does not depend on an order; slightly more than k can be kept.
    """
    return Stage("trim_by_magnitude", parameter, "magnitude", keep_large)
