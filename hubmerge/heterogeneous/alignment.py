"""One model's units, and the features inside them, brought to another's: a map for every group, from activations or from weights."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from hubmerge.free_memory import return_free_memory
from hubmerge.heterogeneous.batches import Batch
from hubmerge.heterogeneous.maps import GroupMap, Maps, Selection, Soft, encoded_axes
from hubmerge.heterogeneous.matching import match_by_activations, matches_of_weights
from hubmerge.heterogeneous.stream_maps import StreamMap
from hubmerge.heterogeneous.unit_maps import MatchedUnits, match_heads
from hubmerge.heterogeneous.unit_views import groups_with_features, views_of_activations, views_of_weights
from hubmerge.heterogeneous.weight_units import match_by_weights
from hubmerge.symmetry.groups import Role, SymmetrySpec

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["AlignedGroup", "Alignment", "align_pair"]

_SAME = 0.99
"""Units whose incoming weights are as alike as this are the same but for their scale."""


@dataclass(frozen=True)
class AlignedGroup:
    """sizes: of both models.  matched: pairs of units; similarity: the mean over them.  support: of how many features one of the first
    model's is made, on average (the exponential of the entropy of its shares); 1 where units only change places.
    """

    sizes: tuple[int, int]
    matched: int
    similarity: float
    support: float


@dataclass(frozen=True)
class Alignment:
    """maps: of every group that is not the same in both models, what takes the other's features to the first's."""

    maps: Mapping[str, GroupMap]
    groups: Mapping[str, AlignedGroup]


def align_pair(
    models: tuple[Any, Any],
    specs: tuple[SymmetrySpec, SymmetrySpec],
    batches: Sequence[Batch],
    align: Literal["activations", "weights", "identity"],
    *,
    min_similarity: float = 0.0,
    without: Collection[str] = (),
    seed: int = 0,
    stream: StreamMap | None = None,
    states: tuple[Mapping[str, Tensor], Mapping[str, Tensor]] | None = None,
) -> Alignment:
    """Align the second model with the first.

    Units change places, and signs and scales where the symmetry table allows them; features inside heads are turned, or change their
    basis (`hubmerge.heterogeneous.unit_maps`).  min_similarity: pairs less alike are not matched.  without: groups, by name or by row,
    that stay as they are.  stream: how the residual streams are turned, known before; states: then the models' absorbed tensors.
    Raises `PlanError` for weights of different shapes, but for those of a turned stream.
    """
    known: dict[str, GroupMap] = {} if stream is None else {stream.group: stream.part}
    if align == "identity":
        return Alignment(known, {})
    left = specs[0].named(without)
    heads = groups_with_features(specs[0]) - left
    if states is None:
        states = (models[0].state_dict(), models[1].state_dict())
    if stream is not None:
        left |= {stream.group}
    if stream is not None and align == "weights":
        return _finished(specs, states, known, {}, match_by_weights(specs, states, known, left), stream)
    if align == "activations":
        matches = match_by_activations(models, specs, batches, min_similarity=min_similarity, without=(*left, *heads))
        views = views_of_activations(models, specs, batches, heads)
    else:
        matches = matches_of_weights(specs[0], *states, seed=seed, without=(*left, *heads))
        plain: Maps = {name: (Selection(each.partner, each.sign),) for name, each in matches.items()}
        views = views_of_weights(specs, states, plain, heads)
    maps = known
    groups: dict[str, AlignedGroup] = {}
    for name, each in matches.items():
        maps[name] = Selection(each.partner, each.sign)
        groups[name] = _group(specs, name, each.partner, each.similarity)
        for inner, turns in each.inner.items():
            maps[inner] = _nested(turns, each.partner, specs[1].groups[name].size, name)
    units = {name: match_heads(specs, name, own, least=min_similarity) for name, own in views}
    return_free_memory()
    return _finished(specs, states, maps, groups, units, stream)


def _finished(
    specs: tuple[SymmetrySpec, SymmetrySpec],
    states: tuple[Mapping[str, Tensor], Mapping[str, Tensor]],
    maps: dict[str, GroupMap],
    groups: dict[str, AlignedGroup],
    units: Mapping[str, MatchedUnits],
    stream: StreamMap | None,
) -> Alignment:
    """The alignment of groups that are known, with their maps, and of units that were matched with what is inside them."""
    for name, each in units.items():
        maps |= each.maps(name)
        groups[name] = _units(specs, name, each)
    if stream is not None:
        sizes = stream.rotation.shape
        groups[stream.group] = AlignedGroup((sizes[0], sizes[1]), min(sizes), stream.cosine, _support(stream.part))
    return Alignment(_scaled(specs, states, maps), groups)


def _units(specs: tuple[SymmetrySpec, SymmetrySpec], name: str, units: MatchedUnits) -> AlignedGroup:
    supports = [_support(part) for part in units.inner.values()]
    return _group(specs, name, units.unit, units.similarity, supports)


def _group(
    specs: tuple[SymmetrySpec, SymmetrySpec],
    name: str,
    unit: NDArray[np.int64],
    similarity: NDArray[np.float64],
    supports: Sequence[float] = (),
) -> AlignedGroup:
    there = unit >= 0
    mean = float(similarity[there].mean()) if there.any() else 0.0
    sizes = (specs[0].groups[name].size, specs[1].groups[name].size)
    return AlignedGroup(sizes, int(there.sum()), mean, max(supports, default=1.0))


def _nested(turns: NDArray[np.float64], partner: NDArray[np.int64], size: int, outer: str) -> Soft:
    """Maps by pair, in the first model's order, as maps by the other's units."""
    own = np.broadcast_to(np.eye(*turns.shape[1:]), (size, *turns.shape[1:])).copy()
    there = np.flatnonzero(partner >= 0)
    own[partner[there]] = turns[there]
    return Soft(own, np.swapaxes(own, -1, -2), outer)


def _support(part: Soft) -> float:
    """The exponential of the entropy of the rows' squares, the mean over rows that are not empty."""
    squares = np.square(part.encode).reshape(-1, part.encode.shape[-1])
    squares = squares[squares.sum(1) > 0]
    if not len(squares):
        return 1.0
    shares = squares / squares.sum(1, keepdims=True)
    entropy = -(shares * np.log(np.where(shares > 0, shares, 1.0))).sum(1)
    return float(np.exp(entropy).mean())


def _scaled(
    specs: tuple[SymmetrySpec, SymmetrySpec],
    states: tuple[Mapping[str, Tensor], Mapping[str, Tensor]],
    maps: Mapping[str, GroupMap],
) -> dict[str, GroupMap]:
    """The maps with scales for units that are another's but for them; group by group in the order of the table, which is the network's."""
    found = dict(maps)
    for name, part in maps.items():
        if specs[0].groups[name].kind.scales and isinstance(part, Selection):
            rows = [_incoming(specs, states, found, member, name) for member in specs[0].members(name, Role.WRITES)]
            ours, theirs = (np.concatenate(side, 1) for side in zip(*rows, strict=True))
            norms = np.linalg.norm(ours, axis=1), np.linalg.norm(theirs, axis=1)
            there = (part.unit >= 0) & (norms[0] > 0) & (norms[1] > 0)
            scale = np.where(there, norms[0] / np.where(there, norms[1], 1.0), 1.0)
            cosine = (ours * theirs).sum(1) / np.where(there, norms[0] * norms[1], 1.0)
            found[name] = Selection(part.unit, part.sign, np.where(there & (cosine >= _SAME), scale, 1.0))
    return found


def _incoming(
    specs: tuple[SymmetrySpec, SymmetrySpec],
    states: tuple[Mapping[str, Tensor], Mapping[str, Tensor]],
    maps: Mapping[str, GroupMap],
    member: str,
    group: str,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The numbers of a tensor that write each unit of a group, in both models: (units, numbers), the other's carried."""
    import torch

    rows = []
    for spec, state, own in zip(specs, states, ({}, {name: (part,) for name, part in maps.items()}), strict=True):
        values, axes = state[member].to(torch.float64), spec.tensors[member].axes
        place = next(i for i, axis in enumerate(axes) for part in axis if any(each.group == group for each in part))
        values = encoded_axes(values, axes, own, 0)
        rows.append(values.movedim(place, 0).reshape(values.shape[place], -1).numpy())
    return rows[0], rows[1]
