"""The merged model's tensors, entry by entry the parents' mean, a strip at a time, so that no large tensor stands in float64."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from hubmerge.heterogeneous.maps import Maps, encoded, is_mapped, presence
from hubmerge.symmetry.groups import Axis, SymmetrySpec

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Cut", "fill_merged", "merge_tensors", "strip_entries", "strips"]

Cut = tuple[int, int, int] | None
"""A part of a tensor: its axis, where it begins there, and how long it is; None for all of it."""

_STRIP = 2**21
"""Entries that are merged at once, where an axis has no maps and can be cut: 16 MB in float64."""


def merge_tensors(
    specs: Sequence[SymmetrySpec], tensors: Sequence[Mapping[str, Tensor]], maps: Maps, weights: Sequence[float]
) -> dict[str, Tensor]:
    """The merged model's tensors, float32, by the first parent's names.

    specs, tensors: of every parent, by the first's names, which the others need not all have.  An entry is the mean, by `weights`,
    over the parents that have the tensor and the unit it is written to: where that is one parent's alone, so is the entry.  What is
    not floating-point is the first parent's.  Tied tensors are one in the merged model too.
    """
    tied = dict(specs[0].tied)
    merged = {name: _merged(specs, name, tensors, maps, weights) for name in tensors[0] if name not in tied}
    return {name: merged[tied.get(name, name)] for name in tensors[0]}


def fill_merged(
    merged: Mapping[str, Tensor],
    specs: Sequence[SymmetrySpec],
    tensors: Sequence[Mapping[str, Tensor]],
    maps: Maps,
    weights: Sequence[float],
) -> None:
    """The same written into the tensors `merged`, one after another.

    Raises `RuntimeError` where `merged` has other names or shapes, which no config that was made for these maps gives.
    """
    import torch

    tied = dict(specs[0].tied)
    if merged.keys() != tensors[0].keys():
        raise RuntimeError(f"other tensors than were merged: {sorted(merged.keys() ^ tensors[0].keys())}")
    for name, place in merged.items():
        values = None if name in tied else _merged(specs, name, tensors, maps, weights)
        values = merged[tied[name]] if values is None else values
        if values.shape != place.shape:
            raise RuntimeError(f"{name} is {tuple(place.shape)} in the config and was merged to {tuple(values.shape)}")
        with torch.no_grad():
            place.copy_(values)


def strip_entries(spec: SymmetrySpec, name: str, shape: Sequence[int], mapped: Collection[str]) -> int:
    """How many entries of a tensor stand in float64 at once.  mapped: the groups with maps."""
    axes = spec.tensors[name].axes if name in spec.tensors else ()
    free = [size for size, axis in zip(shape, axes, strict=True) if not is_mapped(axis, mapped)] if axes else []
    total = math.prod(shape)
    return min(total, max(_STRIP, total // max(free, default=1)))


def strips(shape: Sequence[int], axes: Sequence[Sequence[Axis]], maps: Collection[str]) -> tuple[Cut, ...]:
    """What of a tensor is done at once; all of it where it is small, or where every axis has maps.

    axes: of the models' tensors, which are alike along those without.
    """
    total = math.prod(shape)
    free = [i for i in range(len(shape)) if not any(is_mapped(each[i], maps) for each in axes)]
    if total <= _STRIP or not free:
        return (None,)
    axis = max(free, key=lambda i: shape[i])
    size = shape[axis]
    step = max(1, _STRIP * size // total)
    return tuple((axis, low, min(step, size - low)) for low in range(0, size, step))


def _merged(
    specs: Sequence[SymmetrySpec],
    name: str,
    tensors: Sequence[Mapping[str, Tensor]],
    maps: Maps,
    weights: Sequence[float],
) -> Tensor:
    first = tensors[0][name]
    if not first.is_floating_point():
        return first.clone()
    there = [s for s, parent in enumerate(tensors) if name in parent]
    own = [tensors[s][name] for s in there]
    cuts = strips(first.shape, [specs[s].tensors[name].axes for s in there], maps)
    merged: Tensor | None = None
    for cut in cuts:
        if cut is None:
            return _mean(specs, name, there, own, maps, weights)
        strip = _mean(specs, name, there, [each.narrow(*cut) for each in own], maps, weights)
        axis = cut[0]
        if merged is None:
            merged = strip.new_empty([*strip.shape[:axis], first.shape[axis], *strip.shape[axis + 1 :]])
        merged.narrow(*cut).copy_(strip)
    assert merged is not None
    return merged


def _mean(
    specs: Sequence[SymmetrySpec],
    name: str,
    parents: Sequence[int],
    tensors: Sequence[Tensor],
    maps: Maps,
    weights: Sequence[float],
) -> Tensor:
    """Of a tensor, or of a strip of it along an axis without maps: float32."""
    import torch

    total: Tensor | None = None
    mass: Tensor | None = None
    for s, tensor in zip(parents, tensors, strict=True):
        values, own = _carried(specs[s], name, tensor, maps, s)
        values = weights[s] * values
        own = weights[s] * own
        total = values.add_(0.0) if total is None else total.add_(values)  # no zero is negative
        mass = own if mass is None else mass + own
    assert total is not None
    assert mass is not None
    return total.div_(mass.clamp_min(_LEAST)).to(torch.float32).contiguous()


_LEAST = 1e-12
"""Less mass than this is none: no parent has the unit."""


def _carried(spec: SymmetrySpec, name: str, tensor: Tensor, maps: Maps, parent: int) -> tuple[Tensor, Tensor]:
    """A parent's tensor in merged units, float64, and how much of each entry it is there for: of size 1 along axes without maps."""
    import torch

    values, mass = tensor.to(torch.float64), torch.ones((), dtype=torch.float64)
    axes = spec.tensors[name].axes
    for position, axis in enumerate(axes):
        if is_mapped(axis, maps):
            values = encoded(values.movedim(position, 0), axis, maps, parent).movedim(0, position)
            mass = mass * presence(axis, maps, parent).reshape(-1, *(1 for _ in axes[position + 1 :]))
    return values, mass
