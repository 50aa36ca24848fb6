"""Which views are added up in one pass over the data, so that their sums stay below a bound; and how large all of them are."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from hubmerge.symmetry.groups import Factor, Kind, Role, SymmetrySpec

__all__ = ["AT_ONCE", "bytes_of_sums", "largest_table", "passes"]

AT_ONCE = 2**29
"""Bytes of sums that are held at once: a model of 135 million parameters needs twice as many, which is two or three runs of it."""

_DOUBLE = 8


def passes(groups: Sequence[str], sizes: Sequence[int], most: int = AT_ONCE) -> list[list[int]]:
    """The numbers of the views in every pass; those of one group come one after another and in their order.

    groups: of every view; sizes: bytes of the sums of each.  A pass holds at most `most` bytes, or one view that is larger.  A group
    is cut only where it is larger than a pass.
    """
    found: list[list[int]] = []
    room = 0
    for group in dict.fromkeys(groups):
        views = [i for i, name in enumerate(groups) if name == group]
        fits_one = sum(sizes[i] for i in views) <= most
        if fits_one and sum(sizes[i] for i in views) > room:
            room = 0  # a new pass
        for i in views:
            if sizes[i] > room:
                found.append([])
                room = most
            found[-1].append(i)
            room -= sizes[i]
    return found


def bytes_of_sums(specs: Sequence[SymmetrySpec]) -> int:
    """The sums of all views, roughly: products of the units of the first model with those of the others, wherever they are read."""
    return sum(_DOUBLE * own * other for own, others in _readers(specs) for other in others)


def largest_table(specs: Sequence[SymmetrySpec]) -> int:
    """Bytes of the largest table of correlations that one group has with all other models."""
    return max((_DOUBLE * own * sum(others) for own, others in _readers(specs)), default=0)


def _readers(specs: Sequence[SymmetrySpec]) -> list[tuple[int, list[int]]]:
    """For every segment that a tensor reads units by, how many units the models have there."""
    lengths = [_lengths(spec) for spec in specs]
    return [(own, [other[place] for other in lengths[1:] if place in other]) for place, own in lengths[0].items()]


def _lengths(spec: SymmetrySpec) -> Mapping[tuple[str, int, int], int]:
    return {
        (name, i, j): math.prod(factor.size for factor in segment)
        for name, tensor in spec.tensors.items()
        if len(tensor.axes) > 1
        for i, axis in enumerate(tensor.axes)
        for j, segment in enumerate(axis)
        if any(_is_read(spec, factor) for factor in segment)
    }


def _is_read(spec: SymmetrySpec, factor: Factor) -> bool:
    kind = spec.groups[factor.group].kind if factor.group else Kind.FIXED
    return factor.role is Role.READS and (kind.permutes or kind.is_linear)
