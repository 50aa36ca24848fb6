"""Heads of two models, paired whatever the basis of their features, and the map of the features inside every pair.

Where features may change their basis (Theus et al. 2025, arXiv:2506.22712), the pair's correlation is that of the best bases: the
mean of the canonical correlations.  Features then are turned (Procrustes), and the basis is changed wholly only where the two
heads prove to be the same but for it: a general basis change of unlike heads would blow up what one of them hardly uses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from hubmerge.heterogeneous.maps import GroupMap, Selection, Soft
from hubmerge.heterogeneous.unit_views import UnitView
from hubmerge.symmetry.groups import Kind, SymmetrySpec

__all__ = ["MatchedUnits", "match_heads"]

Floats = NDArray[np.float64]

_SAME = 0.99
"""Features as alike as this are the same but for their basis."""
_LEAST = 1e-9
"""Of a mean eigenvalue: directions with less are not seen."""


@dataclass(frozen=True)
class MatchedUnits:
    """unit: for each unit of the first model the other's, -1 where it has none; sign: 1 or -1 of each.  similarity: of each pair.
    inner: maps by nested group.
    """

    unit: NDArray[np.int64]
    sign: Floats
    similarity: Floats
    inner: Mapping[str, Soft] = field(default_factory=dict)

    def maps(self, group: str) -> dict[str, GroupMap]:
        """Of the group and those inside it."""
        return {group: Selection(self.unit, self.sign), **self.inner}


def match_heads(
    specs: tuple[SymmetrySpec, SymmetrySpec], group: str, views: Sequence[UnitView], *, least: float = 0.0
) -> MatchedUnits:
    """The best assignment of a group's units.

    views: all that are known of the group.  least: pairs less alike are none.  Where the models have different numbers of units, or of
    features in a unit, those that are left over have no partner.
    """
    worth = np.mean([_alike(view) for view in views], 0)
    unit, similarity = _assigned(worth, least)
    inner: dict[str, Soft] = {}
    nested = [name for name, each in specs[0].groups.items() if each.outer == group]
    for name in nested:
        if not specs[0].groups[name].kind.permutes:
            own = [view for view in views if view.names == (group, name)]
            turns = _turns(specs, group, name, unit, own)
            inner[name] = Soft(turns, _inverse(turns), group)
    for name in nested:
        if specs[0].groups[name].kind.permutes:
            own = [view for view in views if len(view.names) == 3 and view.names[1] == name]
            orders = _orders(specs, group, name, unit, own, inner)
            inner[name] = Soft(orders, np.swapaxes(orders, -1, -2), group)
    return MatchedUnits(unit, np.ones(len(unit)), similarity, inner)


def _assigned(worth: Floats, least: float) -> tuple[NDArray[np.int64], Floats]:
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(worth, maximize=True)
    unit, similarity = np.full(len(worth), -1, np.int64), np.zeros(len(worth))
    for i, j in zip(rows, columns, strict=True):
        if worth[i, j] >= least:
            unit[i], similarity[i] = j, worth[i, j]
    return unit, similarity


def _inverse(turns: Floats) -> Floats:
    return np.asarray(np.linalg.pinv(turns), np.float64)


def _alike(view: UnitView) -> Floats:
    """The mean canonical correlation of every pair: (units, other's units)."""
    ours, theirs = _inverse_root(view.ours), _inverse_root(view.theirs)
    white = np.einsum("iab,ijbc,jcd->ijad", ours, view.cross, theirs, optimize=True)
    values: Floats = np.linalg.svd(white, compute_uv=False)
    alike: Floats = np.minimum(values, 1.0).mean(-1)
    return alike


def _inverse_root(moments: Floats) -> Floats:
    values, vectors = np.linalg.eigh(moments)
    floor = _LEAST * np.maximum(values.mean(-1, keepdims=True), 1e-300)
    scale = np.where(values > floor, 1 / np.sqrt(np.maximum(values, floor)), 0.0)
    found: Floats = (vectors * scale[..., None, :]) @ np.swapaxes(vectors, -1, -2)
    return found


def _turns(
    specs: tuple[SymmetrySpec, SymmetrySpec], outer: str, name: str, unit: NDArray[np.int64], views: Sequence[UnitView]
) -> Floats:
    """For every unit of the other model the matrix that takes its features to its partner's: (other's units, size, other's size)."""
    sizes, kind = [spec.groups[name].size for spec in specs], specs[0].groups[name].kind
    turns = np.broadcast_to(np.eye(sizes[0], sizes[1]), (specs[1].groups[outer].size, *sizes)).copy()
    for i, j in enumerate(unit):
        if j >= 0 and views:
            pairs = [(view.ours[i], view.theirs[j], view.cross[i, j], view.inverted) for view in views]
            turns[j] = _SOLVERS[kind](pairs)
    return turns


_Pair = tuple[Floats, Floats, Floats, bool]
"""Second moments of one pair of units: ours, theirs, of both, and whether the features are seen inverted."""


def _basis(pairs: Sequence[_Pair]) -> Floats:
    """The best rotation over all views, or the change of basis where there is one."""
    ours, theirs, cross, inverted = min(pairs, key=lambda pair: pair[3])
    left, right = _inverse_root(ours), _inverse_root(theirs)
    u, values, v = np.linalg.svd(left @ cross @ right)
    if cross.shape[0] == cross.shape[1] and values.min() >= _SAME:
        changed: Floats = np.linalg.solve(left, u @ v) @ right
        return _inverse(changed).T if inverted else changed
    total = sum(pair[2] / max(np.sqrt(np.trace(pair[0]) * np.trace(pair[1])), 1e-300) for pair in pairs)
    u, _, v = np.linalg.svd(np.asarray(total), full_matrices=False)
    turned: Floats = u @ v
    return turned


def _planes(pairs: Sequence[_Pair]) -> Floats:
    """A rotation of each rotary plane (k, k + half), with a scale where the features are the same but for it."""
    ours, theirs, cross, inverted = min(pairs, key=lambda pair: pair[3])
    half = len(cross) // 2
    diagonal = np.diag(cross)
    real, imaginary = diagonal[:half] + diagonal[half:], np.diag(cross, -half) - np.diag(cross, half)
    power = [np.diag(moments)[:half] + np.diag(moments)[half:] for moments in (ours, theirs)]
    length = np.hypot(real, imaginary)
    known = length > _LEAST * np.maximum(np.sqrt(power[0] * power[1]), 1e-300)
    turn = np.where(known, (real + 1j * imaginary) / np.where(known, length, 1.0), 1.0)
    if np.mean(length / np.maximum(np.sqrt(power[0] * power[1]), 1e-300)) >= _SAME:
        ratio = np.sqrt(power[0] / np.maximum(power[1], 1e-300))
        turn = turn * (1 / ratio if inverted else ratio)
    cosine, sine = np.diag(turn.real), np.diag(turn.imag)
    found: Floats = np.block([[cosine, -sine], [sine, cosine]])
    return found


def _plane_signs(pairs: Sequence[_Pair]) -> Floats:
    cross = sum(pair[2] for pair in pairs)
    diagonal = np.diag(np.asarray(cross))
    half = len(diagonal) // 2
    signs = np.where(diagonal[:half] + diagonal[half:] < 0, -1.0, 1.0)
    return np.diag(np.concatenate([signs, signs]))


def _as_it_is(pairs: Sequence[_Pair]) -> Floats:
    return np.eye(*pairs[0][2].shape)


_SOLVERS = {
    **dict.fromkeys(Kind, _as_it_is),
    Kind.INVERTIBLE: _basis,
    Kind.PLANES: _planes,
    Kind.PLANE_SIGNS: _plane_signs,
}


def _orders(
    specs: tuple[SymmetrySpec, SymmetrySpec],
    outer: str,
    name: str,
    unit: NDArray[np.int64],
    views: Sequence[UnitView],
    inner: Mapping[str, Soft],
) -> Floats:
    """For every unit of the other model the order of the units inside it (query heads of a key-value head), as a matrix."""
    sizes = [spec.groups[name].size for spec in specs]
    orders = np.broadcast_to(np.eye(sizes[0], sizes[1]), (specs[1].groups[outer].size, *sizes)).copy()
    for i, j in enumerate(unit):
        if j < 0 or not views:
            continue
        worth = sum(_worth_inside(view, i, int(j), sizes, inner) for view in views)
        chosen, _ = _assigned(np.asarray(worth), -np.inf)
        orders[j] = 0.0
        for m, n in enumerate(chosen):
            if n >= 0:
                orders[j, m, n] = 1.0
    return orders


def _worth_inside(view: UnitView, i: int, j: int, sizes: Sequence[int], inner: Mapping[str, Soft]) -> Floats:
    """How alike the units inside a pair are, of features brought into one basis: (size, other's size)."""
    widths = [moments.shape[-1] // size for moments, size in zip((view.ours, view.theirs), sizes, strict=True)]
    cross = view.cross[i, j].reshape(sizes[0], widths[0], sizes[1], widths[1])
    features = inner.get(view.names[2] or "")
    turn = np.eye(*widths) if features is None else features.encode[j]
    if view.inverted and features is not None:
        turn = features.decode[j].T
    scale = [
        np.diag(moments).reshape(size, width).sum(1)
        for moments, size, width in zip((view.ours[i], view.theirs[j]), sizes, widths, strict=True)
    ]
    found: Floats = np.einsum("manb,ab->mn", cross, turn)
    alike: Floats = found / np.maximum(np.sqrt(np.outer(*scale)), 1e-300)
    return alike
