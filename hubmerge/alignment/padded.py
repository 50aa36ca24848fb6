"""Units of models of other widths matched by weights: both as wide as the wider one, with zeros, and the assignment of equal widths.

Zeros are worth nothing to any unit, and in a group only one of the two models has them, so that the best assignment among as many units is
the best rectangular one: every unit of the narrower model has a partner.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from hubmerge.alignment.common import Specs
from hubmerge.heterogeneous.depths import with_sizes
from hubmerge.heterogeneous.matching import GroupMatches
from hubmerge.symmetry.elements import Monomial
from hubmerge.symmetry.groups import Axis, SymmetrySpec

if TYPE_CHECKING:
    from torch import Tensor

    from hubmerge.symmetry.match import Matching

__all__ = ["matches_by_weights", "widened"]


def widened(specs: Specs) -> SymmetrySpec:
    """The symmetries of a model that has, of every group, as many units as the wider one of the two."""
    sizes = {name: max(group.size, specs[1].groups[name].size) for name, group in specs[0].groups.items()}
    return with_sizes(specs[0], sizes)


def matches_by_weights(
    specs: Specs, base: Mapping[str, Tensor], other: Mapping[str, Tensor], *, seed: int, without: Collection[str]
) -> tuple[dict[str, GroupMatches], dict[str, float]]:
    """How the other's units are matched with the base's, and how alike, on average, as many units are that stand in one place.

    A pair's similarity is its group's: the mean cosine, over the pairs, of what units are connected by.
    """
    from hubmerge.symmetry.match import match_weights

    spec = widened(specs)
    sides = _Padded(base, specs[0], spec), _Padded(other, specs[1], spec)
    matching = match_weights(spec, *sides, seed=seed, without=without)
    found, before = {}, {}
    element = _in_full(spec, matching)
    for name, part in element.items():
        group = spec.groups[name]
        if group.outer is not None:
            continue
        own, units = (each.groups[name].size for each in specs)
        partner = np.where(part.order[:own] < units, part.order[:own], -1)
        ratio = group.size / min(own, units)  # a unit of zeros is alike to none, and no pair
        alike = ratio * matching.groups[name].similarity
        before[name] = ratio * matching.groups[name].before
        inner = {
            nested: _turns(specs, nested, partner, each)
            for nested, each in element.items()
            if spec.groups[nested].outer == name
        }
        found[name] = GroupMatches(partner, np.where(partner >= 0, alike, 0.0), part.factor[:own], inner)
    return found, before


def _in_full(spec: SymmetrySpec, matching: Matching) -> dict[str, Monomial]:
    """The order of every group that was matched and of those inside it, also where all units stay: they are more or fewer all the same."""
    found = {}
    for name, group in spec.groups.items():
        if (group.outer or name) in matching.groups and group.kind.permutes:
            part = matching.element.get(name)
            shape = (group.size,) if group.outer is None else (spec.groups[group.outer].size, group.size)
            order = np.broadcast_to(np.arange(group.size), shape)
            found[name] = part if isinstance(part, Monomial) else Monomial(order.copy(), np.ones(shape))
    return found


def _turns(
    specs: Specs, name: str, partner: np.ndarray[tuple[int, ...], np.dtype[np.int64]], part: Monomial
) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """For every pair of outer units the matrix that takes the other's inner units to the base's: (base's outer, inner, other's inner)."""
    size, units = (spec.groups[name].size for spec in specs)
    turns = np.zeros((partner.size, size, units))
    for i in np.flatnonzero(partner >= 0):
        order = part.order[partner[i], :size]
        there = order < units
        turns[i, np.flatnonzero(there), order[there]] = part.factor[partner[i], :size][there]
    return turns


class _Padded(Mapping[str, "Tensor"]):
    """A model's tensors with zeros for the units that it lacks, each made when it is asked for."""

    def __init__(self, tensors: Mapping[str, Tensor], spec: SymmetrySpec, wide: SymmetrySpec) -> None:
        self._tensors, self._spec, self._wide = tensors, spec, wide

    def __getitem__(self, name: str) -> Tensor:
        values = self._tensors[name]
        return _padded(values, self._spec.tensors[name].axes, self._wide.tensors[name].axes)

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)


def _padded(values: Tensor, axes: Sequence[Axis], wide: Sequence[Axis]) -> Tensor:
    import math

    import torch

    for place, (axis, wanted) in enumerate(zip(axes, wide, strict=True)):
        if axis == wanted:
            continue
        sizes = [math.prod(factor.size for factor in segment) for segment in axis]
        pieces = []
        for piece, segment, to in zip(torch.split(values, sizes, dim=place), axis, wanted, strict=True):
            own, new = ([factor.size for factor in each] for each in (segment, to))
            moved = piece.movedim(place, 0)
            room = moved.new_zeros((*new, *moved.shape[1:]))
            room[tuple(slice(size) for size in own)] = moved.reshape(*own, *moved.shape[1:])
            pieces.append(room.reshape(-1, *moved.shape[1:]))
        values = torch.cat(pieces).movedim(0, place)
    return values
