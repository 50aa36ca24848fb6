"""What goes into a layer and comes out of it as rows of the merged model's units, and its weights as a matrix for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hubmerge.heterogeneous.confidence import shares_of_rows
from hubmerge.heterogeneous.layers import channels_last
from hubmerge.heterogeneous.least_squares import patches
from hubmerge.heterogeneous.lockstep import Stop
from hubmerge.heterogeneous.maps import Maps, merge_features
from hubmerge.symmetry.groups import Axis

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["as_fed", "input_rows", "matrix_of", "merged_rows", "of_base"]


def matrix_of(module: Any, kind: str) -> Tensor:
    """A layer's weights as (inputs, outputs), float64, its bias the last row."""
    import torch

    values = module.weight.detach().to(torch.float64)
    matrix = values if kind == "transposed" else values.reshape(len(values), -1).T
    return matrix.clone() if module.bias is None else torch.cat([matrix, module.bias.detach().to(torch.float64)[None]])


def merged_rows(
    values: Sequence[Tensor | None],
    axes: Sequence[Axis | None],
    follow: Tensor | None,
    maps: Maps,
    weights: Sequence[float],
    kind: str,
    mask: Tensor | None,
) -> Tensor:
    """The parents' features in merged units, as rows: each by its weight, or by its share of the row (`follow`)."""
    shares: Sequence[float | Tensor] = weights
    if follow is not None:
        shares = [
            0.0 if one is None else shares_of_rows(own, one, kind, mask)
            for own, one in zip(follow, values, strict=True)
        ]
    rows = [None if one is None else channels_last(one, kind, mask) for one in values]
    return merge_features(rows, axes, maps, shares)


def of_base(stops: Sequence[Sequence[Stop] | None]) -> Sequence[Stop]:
    """Those of the base, which has every layer."""
    assert stops[0] is not None
    return stops[0]


def as_fed(features: Tensor, shape: Sequence[int], kind: str) -> Tensor:
    """Rows of channels as the module takes them; shape: of a parent's input."""
    if kind == "convolution":
        return features.reshape(shape[0], *shape[2:], -1).movedim(-1, 1)
    return features.reshape(*shape[:-1], -1)


def input_rows(x: Tensor, module: Any, kind: str, mask: Tensor | None) -> Tensor:
    """A layer's inputs as rows, with a column of ones where it has a bias."""
    import torch

    is_image = kind == "convolution"
    rows = patches(x, module.kernel_size, module.stride, module.padding) if is_image else channels_last(x, kind, mask)
    return rows if module.bias is None else torch.cat([rows, torch.ones_like(rows[:, :1])], 1)
