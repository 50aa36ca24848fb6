"""How the parents' units become those of the merged model: one map for each group and parent, and the tensors they make.

One formulation for partial matching (PLeaS, arXiv:2407.02447), for permutations (arXiv:2209.04836) and for soft maps: a merged
feature is ``sum_s E_s z_s``, and a parent's reader reads ``D_s z``, so that a matrix becomes ``sum_s E_s W_s D_s``.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hubmerge.symmetry.groups import Axis, Factor, Role, Segment

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "GroupMap",
    "Maps",
    "Selection",
    "Soft",
    "encoded",
    "encoded_axes",
    "is_mapped",
    "merge_features",
    "parents_of_units",
    "presence",
]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Selection:
    """Every merged unit is one of the parent's, or none of them.

    unit: (merged size,), the parent's unit, -1 where it has none.  sign: 1 or -1 for each.  E has the sign at (i, unit[i]), and D is
    its transpose.  scale: positive, where units are also scaled: E has it times the sign, D the sign over it.
    """

    unit: NDArray[np.int64]
    sign: Floats
    scale: Floats | None = None

    @classmethod
    def of(cls, unit: NDArray[np.int64]) -> Selection:
        """The selection without changes of sign."""
        return cls(unit, np.ones(unit.size))


@dataclass(frozen=True)
class Soft:
    """Units are mixed.  encode: (merged size, parent's size), decode: (parent's size, merged size).

    outer: the group in which this one is nested; the size of that in the parent is then in front of both.
    """

    encode: Floats
    decode: Floats
    outer: str | None = None


GroupMap = Selection | Soft
Maps = Mapping[str, Sequence[GroupMap]]
"""Group -> a map for each parent.  A group that is not there has the same units in all of them, in the same order."""


_LEAST = 1e-12
"""Less mass than this is none: no parent has the unit."""


def merge_features(
    values: Sequence[Tensor | None], axes: Sequence[Axis | None], maps: Maps, weights: Sequence[float | Tensor]
) -> Tensor:
    """What the parents compute, (rows, channels) each, as the merged model would have it: (rows, merged channels), float64.

    axes: of the channels in every parent; None, with None for its values, for one that has no such layer.  A unit that several have is
    the mean of theirs, by `weights`: a number for each parent, or one for each of its rows, (rows, 1).
    """
    import torch

    total: Tensor = torch.zeros((), dtype=torch.float64)
    mass: Tensor = torch.zeros((), dtype=torch.float64)
    for s, (rows, axis, weight) in enumerate(zip(values, axes, weights, strict=True)):
        if rows is None or axis is None:
            continue
        own = _as_written(axis)
        total = total + weight * encoded(rows.to(torch.float64).T, own, maps, s).T
        mass = mass + weight * presence(own, maps, s)
    return total / mass.clamp_min(_LEAST)


def _as_written(axis: Axis) -> Axis:
    """The axis as a writer's: what is computed is in the units themselves."""
    return tuple(tuple(Factor(factor.group, Role.WRITES, factor.size) for factor in part) for part in axis)


def parents_of_units(axes: Sequence[Axis | None], maps: Maps) -> Tensor:
    """Which parents have each merged channel: (parents, merged channels), bool.

    axes: of the channels in every parent, at least one; None for one that has no such layer.
    """
    import torch

    found = [None if axis is None else presence(_as_written(axis), maps, s) > 0 for s, axis in enumerate(axes)]
    none = torch.zeros_like(next(each for each in found if each is not None))
    return torch.stack([none if each is None else each for each in found])


def encoded_axes(values: Tensor, axes: Sequence[Axis], maps: Maps, parent: int, *, but: int | None = None) -> Tensor:
    """All axes of a parent's `values` in merged units (`encoded`), or all but the one at the place `but`.

    Along an axis without maps `values` may be a part of the tensor.
    """
    for place, axis in enumerate(axes):
        if place != but and is_mapped(axis, maps):
            values = encoded(values.movedim(place, 0), axis, maps, parent).movedim(0, place)
    return values


def is_mapped(axis: Axis, maps: Collection[str]) -> bool:
    """Whether a group of the axis has maps.  maps: the groups that have some."""
    return any(factor.group in maps for segment in axis for factor in segment)


def encoded(values: Tensor, axis: Axis, maps: Maps, parent: int) -> Tensor:
    """The first axis of a parent's `values` in merged units: E times it where it writes, D transposed where it reads."""
    import torch

    sizes = [math.prod(factor.size for factor in segment) for segment in axis]
    pieces = zip(torch.split(values, sizes), axis, strict=True)
    return torch.cat([_piece(piece, segment, maps, parent, mass=False) for piece, segment in pieces])


def presence(axis: Axis, maps: Maps, parent: int) -> Tensor:
    """How much of every merged entry of an axis the parent has: 1 or 0, or the sum of a soft map's row; 1 where the axis reads."""
    import torch

    pieces = []
    for segment in axis:
        ones = torch.ones(math.prod(factor.size for factor in segment), dtype=torch.float64)
        pieces.append(_piece(ones, segment, maps, parent, mass=True))
    return torch.cat(pieces)


def _piece(values: Tensor, segment: Segment, maps: Maps, parent: int, *, mass: bool) -> Tensor:
    """Inner factors first: a nested group's maps are counted as its outer group's units are in the parent."""
    factors = values.reshape(*(factor.size for factor in segment), -1)
    names = [factor.group for factor in segment]
    for position in reversed(range(len(segment))):
        group, role = names[position], segment[position].role
        if group is None or group not in maps:
            continue
        part = maps[group][parent]
        if isinstance(part, Selection):
            factors = _selected(factors, position, part, role, mass=mass)
        else:
            if part.outer is not None and part.outer not in names:
                continue  # gains that all heads share, where features change no more than their sign
            place = None if part.outer is None else names.index(part.outer)
            factors = _mixed(factors, position, place, part, role, mass=mass)
    return factors.reshape(-1, *values.shape[1:])


def _selected(values: Tensor, position: int, part: Selection, role: Role, *, mass: bool) -> Tensor:
    """`part` along axis `position`.  mass: what of it there is, instead of the values: no signs, and all of it where it is read."""
    import torch

    moved = values.movedim(position, 0)
    if mass and role is Role.READS:
        return torch.ones(part.unit.size, *moved.shape[1:], dtype=values.dtype).movedim(0, position)
    there = torch.from_numpy((part.unit >= 0).astype(np.float64))
    factor = there if mass or role is Role.FOLLOWS else there * torch.from_numpy(part.sign)
    if part.scale is not None and not mass and role is not Role.FOLLOWS:
        factor = factor * torch.from_numpy(part.scale if role is Role.WRITES else 1 / part.scale)
    picked = moved[torch.from_numpy(np.maximum(part.unit, 0))]
    return (picked * factor.to(values.dtype).reshape(-1, *(1 for _ in moved.shape[1:]))).movedim(0, position)


def _mixed(values: Tensor, position: int, outer: int | None, part: Soft, role: Role, *, mass: bool) -> Tensor:
    """The same for a map that mixes, one for each entry of axis `outer` where it is nested."""
    import torch

    matrix = part.encode if role is not Role.READS else np.swapaxes(part.decode, -1, -2)
    matrix = np.abs(matrix) if role is Role.FOLLOWS else matrix
    if mass:
        rows = np.ones((*matrix.shape[:-1], 1)) if role is Role.READS else np.abs(matrix).sum(-1, keepdims=True)
        matrix = np.broadcast_to(np.minimum(rows, 1.0) / matrix.shape[-1], matrix.shape)
    kernel = torch.from_numpy(np.array(matrix)).to(values.dtype)
    front = (position,) if outer is None else (outer, position)
    to = tuple(range(len(front)))
    moved = values.movedim(front, to)
    flat = moved.reshape(*moved.shape[: len(front)], -1)
    return (kernel @ flat).reshape(*kernel.shape[:-1], *moved.shape[len(front) :]).movedim(to, front)
