"""Units of two models of any widths aligned by their weights, where the residual stream between them is known."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hubmerge.heterogeneous.maps import GroupMap, encoded_axes
from hubmerge.heterogeneous.unit_maps import MatchedUnits, match_heads
from hubmerge.heterogeneous.unit_views import groups_with_features, views_of_weights
from hubmerge.symmetry.groups import Role, SymmetrySpec

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["match_by_weights"]

Floats = NDArray[np.float64]


def match_by_weights(
    specs: tuple[SymmetrySpec, SymmetrySpec],
    tensors: tuple[Mapping[str, Tensor], Mapping[str, Tensor]],
    known: Mapping[str, GroupMap],
    without: Collection[str] = (),
) -> dict[str, MatchedUnits]:
    """Every group of units that is not `known`.

    Groups are taken in the order of the table, each by all that connects it to groups that are known: what connects it to groups that
    come later has no say, which there is none of between a residual stream and the layers beside it.
    """
    found: dict[str, MatchedUnits] = {}
    maps = dict(known)
    left = specs[0].named(without)
    heads = groups_with_features(specs[0])
    for name, group in specs[0].groups.items():
        if name in maps or name in left or group.outer is not None or not group.kind.permutes or name in heads:
            continue
        found[name] = _plain(specs, tensors, maps, name)
        maps |= found[name].maps(name)
    views = views_of_weights(specs, tensors, {name: (part,) for name, part in maps.items()}, heads - left)
    return found | {name: match_heads(specs, name, own, least=-math.inf) for name, own in views}


def _plain(
    specs: tuple[SymmetrySpec, SymmetrySpec],
    tensors: tuple[Mapping[str, Tensor], Mapping[str, Tensor]],
    known: Mapping[str, GroupMap],
    name: str,
) -> MatchedUnits:
    """The assignment of a group's units by the products of their weights, of every tensor over its norm."""
    from scipy.optimize import linear_sum_assignment

    signed = np.zeros([spec.groups[name].size for spec in specs])
    plain = np.zeros_like(signed)
    ours, theirs = (np.zeros(size) for size in signed.shape)
    for member, symmetry in specs[0].tensors.items():
        roles = [(i, f.role) for i, axis in enumerate(symmetry.axes) for part in axis for f in part if f.group == name]
        if len(roles) != 1 or len(symmetry.axes) < 2:
            continue
        (position, role), sides = roles[0], []
        for spec, values, maps in zip(specs, tensors, ({}, known), strict=True):
            sides.append(_unit_rows(spec, member, values[member], position, maps))
        if sides[0].shape[1] != sides[1].shape[1]:
            continue  # a group on its other side has another size and is not known yet
        scale = np.linalg.norm(sides[0]) * np.linalg.norm(sides[1])
        product = sides[0] @ sides[1].T / max(float(scale), 1e-300)
        ours += _share_of_rows(sides[0])
        theirs += _share_of_rows(sides[1])
        if role is Role.FOLLOWS:
            plain += product
        else:
            signed += product
    signs = specs[0].groups[name].kind.signs
    worth = np.abs(signed) + plain if signs else signed + plain
    rows, columns = linear_sum_assignment(worth, maximize=True)
    unit = np.full(len(worth), -1, np.int64)
    unit[rows] = columns
    sign = np.ones(len(worth))
    if signs:
        sign[rows] = np.where(signed[rows, columns] < 0, -1.0, 1.0)
    similarity = np.zeros(len(worth))
    similarity[rows] = worth[rows, columns] / np.maximum(np.sqrt(ours[rows] * theirs[columns]), 1e-300)
    return MatchedUnits(unit, sign, similarity)


def _share_of_rows(values: Floats) -> Floats:
    """The squared norm of every row over that of all."""
    squares: Floats = np.square(values).sum(1)
    return squares / max(float(squares.sum()), 1e-300)


def _unit_rows(spec: SymmetrySpec, member: str, values: Tensor, position: int, known: Mapping[str, GroupMap]) -> Floats:
    """(units, everything else) of a tensor, its other axes by the maps that are known."""
    import torch

    maps = {name: (part,) for name, part in known.items()}
    values = encoded_axes(values.to(torch.float64), spec.tensors[member].axes, maps, 0, but=position)
    rows: Floats = values.movedim(position, 0).reshape(values.shape[position], -1).numpy()
    return rows
