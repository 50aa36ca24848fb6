"""Rows drawn without replacement while they go by: every one alike, the same for the same seed."""

from __future__ import annotations

from collections.abc import Iterable
from operator import itemgetter
from random import Random
from typing import TypeVar

__all__ = ["drawn"]

T = TypeVar("T")


def drawn(rows: Iterable[T], samples: int, seed: int) -> tuple[T, ...]:
    """At most `samples` of `rows`, in their order; no more than that many are held.

    Algorithm R of Vitter 1985, Random Sampling with a Reservoir, with Python's Mersenne Twister.
    """
    random = Random(seed)  # noqa: S311 - a sample, no secret
    kept: list[tuple[int, T]] = []
    for number, row in enumerate(rows):
        place = number if number < samples else random.randrange(number + 1)
        if number < samples:
            kept.append((number, row))
        elif place < samples:
            kept[place] = (number, row)
    return tuple(row for _, row in sorted(kept, key=itemgetter(0)))
