"""The rotation that brings one model's residual stream to another's, from their weights alone, of the same width or of another.

An orthogonal Procrustes problem over everything that reads or writes the stream (Theus et al. 2025, arXiv:2506.22712), solved in
turns with the alignment of the groups on the other sides of these tensors.  It begins with what has no other side to align: rows of
tokens, positions, pixels and labels.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hubmerge.heterogeneous.maps import GroupMap, Maps, Soft, encoded_axes, is_mapped
from hubmerge.heterogeneous.merged_tensors import Cut, strips
from hubmerge.heterogeneous.stream_form import Stream, known_members, members_of, stream_axis, strip_of
from hubmerge.heterogeneous.weight_units import match_by_weights
from hubmerge.symmetry.groups import SymmetrySpec

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["StreamMap", "find_stream_map"]

Floats = NDArray[np.float64]

_TURNS = 10
_ENOUGH = 1e-6
"""A turn that moves the rotation less, in the mean square of its entries over theirs, is the last."""


@dataclass(frozen=True)
class StreamMap:
    """rotation: (size, other's size), orthonormal columns or rows.  cosine: between all that reads or writes both streams, after it."""

    group: str
    rotation: Floats
    cosine: float

    @property
    def part(self) -> Soft:
        """As a map of absorbed tensors: readers are scaled since a norm divides by the root of the width."""
        ours, theirs = self.rotation.shape
        return Soft(self.rotation, self.rotation.T * math.sqrt(theirs / ours))

    @property
    def shift(self) -> float:
        """What a norm's shift is multiplied with beside the rotation."""
        ours, theirs = self.rotation.shape
        return math.sqrt(ours / theirs)


def find_stream_map(
    specs: tuple[SymmetrySpec, SymmetrySpec],
    stream: Stream,
    tensors: tuple[Mapping[str, Tensor], Mapping[str, Tensor]],
    fixed: Mapping[str, GroupMap],
    unlike: Collection[str] = (),
) -> StreamMap:
    """The rotation of the second model's stream to the first's.

    tensors: of both, absorbed (`hubmerge.heterogeneous.stream_form.Absorbed`).  fixed: maps of groups that are known (tokens, labels).
    unlike: groups whose entries are other things in both, which say nothing.
    """
    members, anchors = (found(specs[0], stream, unlike) for found in (members_of, known_members))
    basis = [_mean_free(spec.groups[stream.group].size) if stream.kind == "layer" else None for spec in specs]
    moments = _moments(specs, stream, tensors, anchors, {name: (part,) for name, part in fixed.items()})
    rotation = _procrustes(moments, basis)
    for _ in range(_TURNS):
        current = StreamMap(stream.group, rotation, 0.0).part
        units = match_by_weights(specs, tensors, {**fixed, stream.group: current})
        found = [(name, part) for group, each in units.items() for name, part in each.maps(group).items()]
        own: Maps = {name: (part,) for name, part in (*fixed.items(), *found)}
        moments = _moments(specs, stream, tensors, members, own)
        new = _procrustes(moments, basis)
        moved = float(np.square(new - rotation).sum() / max(np.square(rotation).sum(), 1e-300))
        rotation = new
        if moved < _ENOUGH:
            break
    return StreamMap(stream.group, rotation, float((moments * rotation).sum()) / max(len(members), 1))


def _moments(
    specs: tuple[SymmetrySpec, SymmetrySpec],
    stream: Stream,
    tensors: tuple[Mapping[str, Tensor], Mapping[str, Tensor]],
    names: list[str],
    maps: Maps,
) -> Floats:
    """The sum over tensors of the products of their entries in both streams, every tensor of norm 1: (size, other's size)."""
    total = np.zeros([spec.groups[stream.group].size for spec in specs])
    for name in names:
        product, norms = np.zeros_like(total), (list[float](), list[float]())
        for cut in _cuts(specs, stream, name, maps):
            ours, theirs = (
                _rows(spec, stream, name, strip_of(values, name, cut), own)
                for spec, values, own in zip(specs, tensors, ({}, maps), strict=True)
            )
            if ours.shape[0] != theirs.shape[0]:
                break
            product += (ours.T @ theirs).numpy()
            for each, rows in zip(norms, (ours, theirs), strict=True):
                each.append(float(rows.norm()))
        scale = math.hypot(*norms[0]) * math.hypot(*norms[1])
        if scale > 0:
            total += product / scale
    return total


def _cuts(
    specs: tuple[SymmetrySpec, SymmetrySpec],
    stream: Stream,
    name: str,
    maps: Maps,
) -> Sequence[Cut]:
    """The strips of a tensor (`strips`); none where its rows are others in the two models: nothing says which is which."""
    sides = [spec.tensors[name] for spec in specs]
    mapped = {*maps, stream.group}
    free = [i for i, axis in enumerate(sides[0].axes) if not is_mapped(axis, mapped)]
    if any(sides[0].shape[i] != sides[1].shape[i] for i in free):
        return ()
    return strips(sides[0].shape, [side.axes for side in sides], mapped)


def _rows(spec: SymmetrySpec, stream: Stream, name: str, values: Tensor, maps: Maps) -> Tensor:
    """(everything else, size) of a tensor; its other axes by `maps`."""
    import torch

    place = stream_axis(spec, stream, name)
    values = encoded_axes(values.to(torch.float64), spec.tensors[name].axes, maps, 0, but=place)
    return values.movedim(place, -1).reshape(-1, values.shape[place])


def _mean_free(size: int) -> Floats:
    """An orthonormal basis of what has no mean: (size, size - 1)."""
    seed = np.concatenate([np.ones((size, 1)), np.eye(size)[:, :-1]], 1)
    basis: Floats = np.linalg.qr(seed)[0][:, 1:]
    return basis


def _procrustes(moments: Floats, basis: list[Floats | None]) -> Floats:
    """The rotation that makes the sum of products largest; where the norm takes the mean out, means go to means."""
    left, right = basis
    if left is not None and right is not None:
        u, _, v = np.linalg.svd(left.T @ moments @ right, full_matrices=False)
        mean: Floats = np.full(moments.shape, 1 / math.sqrt(moments.size))
        mean += left @ (u @ v) @ right.T
        return mean
    u, _, v = np.linalg.svd(moments, full_matrices=False)
    found: Floats = u @ v
    return found
