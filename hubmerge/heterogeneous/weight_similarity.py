"""How alike the units of two models are by what they are connected with, while all other groups are matched as they are."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hubmerge.heterogeneous.activations import Correlation
from hubmerge.heterogeneous.maps import Maps, encoded_axes
from hubmerge.symmetry.groups import Kind, Role, Segment, SymmetrySpec
from hubmerge.symmetry.match import STATISTICS

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["weight_similarity"]

Floats = NDArray[np.float64]


def weight_similarity(
    specs: Sequence[SymmetrySpec], tensors: Sequence[Mapping[str, Tensor]], maps: Maps, group: str
) -> Correlation:
    """The cosines between all weights of every unit of the base and all of every unit of another model, biases and gains among them.

    specs, tensors: of the base and of the other.  maps: of both models' units, and labels; a weight to a unit that the base has none for
    counts as unlike.  Norms' statistics have no say, nor have gains where units may change their sign.  In the form of correlations
    of activations, so that both can be balanced.
    """
    sums: dict[tuple[str, ...], list[Floats]] = {}
    for name, place in _places(specs[0], group):
        for (segment, ours), (_, raw), (_, theirs) in zip(
            _pieces(specs[0], tensors[0], name, place, maps, 0),
            _pieces(specs[1], tensors[1], name, place, {}, 1),
            _pieces(specs[1], tensors[1], name, place, maps, 1),
            strict=True,
        ):
            names = tuple(factor.group or "" for factor in segment)
            if names[0] != group or _has_no_say(specs[0], segment):
                continue
            found = [ours @ theirs.T, np.square(ours).sum(1), np.square(raw).sum(1)]
            shape = [factor.size for factor in segment]
            other = [specs[1].groups[each].size if each else size for each, size in zip(names, shape, strict=True)]
            found[0] = found[0].reshape(*shape, *other)
            sums[names] = [a + b for a, b in zip(sums[names], found, strict=True)] if names in sums else found
    cosines = {names: _cosine(*each) for names, each in sums.items()}
    size = (specs[0].groups[group].size, specs[1].groups[group].size)
    return Correlation(
        cosines.get((group,), np.zeros(size)),
        {names[1]: values for names, values in cosines.items() if len(names) == 2},
        {(names[1], names[2]): values for names, values in cosines.items() if len(names) == 3},
    )


def _places(spec: SymmetrySpec, group: str) -> Iterator[tuple[str, int]]:
    """The tensors and the axes that the group is in."""
    for name, tensor in spec.tensors.items():
        if not name.endswith(STATISTICS):
            for place, axis in enumerate(tensor.axes):
                if any(factor.group == group for segment in axis for factor in segment):
                    yield name, place


def _has_no_say(spec: SymmetrySpec, segment: Segment) -> bool:
    """Whether a unit may change its sign while these of its weights do not, or they are in no order that could be compared."""
    kinds = [spec.groups[factor.group].kind if factor.group else Kind.FIXED for factor in segment]
    return (kinds[0].signs and segment[0].role is Role.FOLLOWS) or not all(
        kind.permutes or kind.is_linear for kind in kinds[:2]
    )


def _pieces(
    spec: SymmetrySpec, tensors: Mapping[str, Tensor], name: str, place: int, maps: Maps, parent: int
) -> Iterator[tuple[Segment, Floats]]:
    """The segments of one axis of a tensor: (their entries, everything else), the other axes in the merged model's units."""
    import torch

    values = tensors[name].to(torch.float64)
    axes = spec.tensors[name].axes
    if maps:
        values = encoded_axes(values, axes, maps, parent, but=place)
    values = values.movedim(place, 0)
    start = 0
    for segment in axes[place]:
        size = math.prod(factor.size for factor in segment)
        yield segment, values[start : start + size].reshape(size, -1).numpy()
        start += size


def _cosine(products: Floats, ours: Floats, theirs: Floats) -> Floats:
    scale = np.sqrt(np.outer(ours, theirs)).reshape(products.shape)
    found: Floats = np.divide(products, scale, out=np.zeros_like(products), where=scale > 0)
    return found
