"""One layer fitted: from what goes into it and what the parents' layers give, to its weights and its norm's statistics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from hubmerge.heterogeneous.batches import FOLDS
from hubmerge.heterogeneous.confidence import shares_of_rows
from hubmerge.heterogeneous.layers import Layer, Norm, channels_last
from hubmerge.heterogeneous.least_squares import Normal, best_ridge, patches, solved, summed
from hubmerge.heterogeneous.lockstep import Stop
from hubmerge.heterogeneous.maps import Maps, merge_features, parents_of_units
from hubmerge.symmetry.groups import Axis

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Fit", "Seen", "Target", "fit_layer"]

_RIDGES = tuple(10.0**k for k in range(-5, 4))
_DEFAULT_RIDGE = 1e-3
_MANY = 1024
"""Inputs of a layer beyond which only one part is left out: its eigenvectors take a second at 2,000, nine at 4,000."""


@dataclass(frozen=True)
class Fit:
    """How layers are fitted.

    inputs: the merged model's own features, or the parents'; auto: the merged model's, held at what the parents' give.  ridge: towards
    the merged weights, in units of the inputs' mean square; auto: for every layer the one that predicts best what was left out.
    stream: whether a layer that adds to a residual stream is fitted to what the stream lacks behind it, with the errors that it
    has gathered before; else to what the parents' layers add.  For the merged model's own features only.  follow: where the
    merged model's own features are fitted on, on every sample the parents by how confident they are of it, or all by their weights.
    Fitted on the parents' own features a layer cannot tell them apart: that form was 5 to 12 points worse by confidence.
    """

    inputs: Literal["auto", "merged", "parents"]
    ridge: float | Literal["auto"] = 1e-3
    stream: bool = True
    follow: Literal["confident", "all"] = "confident"

    @property
    def sequential(self) -> bool:
        return self.inputs != "parents"


@dataclass(frozen=True)
class Target:
    """A layer to be fitted and its axes in every parent.

    norm: the BatchNorm that its output goes to.  stream: the norm behind the sum that its output is added to, with the axes of the
    stream in every parent.
    """

    layer: Layer
    inner: tuple[Axis, ...]
    outer: tuple[Axis, ...]
    norm: Norm | None = None
    stream: Norm | None = None


@dataclass(frozen=True)
class Seen:
    """What was seen at a layer, batch by batch.

    inputs, outputs: of the layer in every parent, or, where it adds to a stream, the stream behind it instead of outputs.  fed: what
    goes into the merged model's layer; None where that was not run.  before: the merged model's stream before it.  shares: whom to
    follow on which sample (`hubmerge.heterogeneous.confidence`); None for the parents' weights on all.
    """

    inputs: Sequence[Sequence[Stop]]
    outputs: Sequence[Sequence[Stop]]
    fed: Sequence[Stop] | None
    before: Sequence[Stop] | None
    shares: Sequence[Tensor] | None = None


def fit_layer(
    target: Target, modules: Mapping[str, Any], seen: Seen, maps: Maps, weights: Sequence[float], fit: Fit
) -> None:
    """Set the weights of the merged model's layer, and the statistics of a BatchNorm behind it.

    modules: of the merged model, by name.  weights: the parents' shares where they have a unit in common.
    """
    import torch

    module, layer = modules[target.layer.name], target.layer
    allowed = _allowed(target, maps, module)
    prior = _matrix(module, layer.kind)
    centred = module.bias is None and target.norm is not None
    if fit.inputs != "merged":
        folds = _folds(target, module, seen, maps, weights, of_parents=True)
        prior = _weights(folds, prior, allowed, fit.ridge, centred=centred)
    if fit.sequential:
        folds = _folds(target, module, seen, maps, weights, of_parents=False)
        ridge = "auto" if fit.inputs == "auto" else fit.ridge
        prior = _weights(folds, prior, allowed, ridge, centred=centred)
    body = prior if module.bias is None else prior[:-1]
    with torch.no_grad():
        module.weight.copy_(body if layer.kind == "transposed" else body.T.reshape(module.weight.shape))
        if module.bias is not None:
            module.bias.copy_(prior[-1])
        if target.norm is not None and fit.sequential:
            _set_statistics(modules[target.norm.name], body, summed(folds))


def _weights(
    folds: Sequence[Normal], prior: Tensor, allowed: Tensor, ridge: float | Literal["auto"], *, centred: bool
) -> Tensor:
    parts = list(folds)
    if centred:  # about the means of all data, which is what the norm behind takes away
        total = summed(folds)
        parts = [fold.about(total.x / total.rows, total.y / total.rows) for fold in folds]
    if ridge == "auto":
        left_out = len(parts) if len(prior) <= _MANY else 1
        ridge = best_ridge(parts, prior, allowed, _RIDGES, left_out=left_out) if len(parts) > 1 else _DEFAULT_RIDGE
    return solved(summed(parts), prior, allowed, ridge)


def _allowed(target: Target, maps: Maps, module: Any) -> Tensor:
    """(inputs, outputs), bool: which weights are between units that some parent has both of."""
    import torch

    inner, outer = (parents_of_units(axes, maps).double() for axes in (target.inner, target.outer))
    allowed = inner.T @ outer > 0
    if target.layer.kind == "convolution":
        allowed = allowed.repeat_interleave(module.kernel_size[0] * module.kernel_size[1], 0)
    return allowed if module.bias is None else torch.cat([allowed, torch.ones_like(allowed[:1])])


def _matrix(module: Any, kind: str) -> Tensor:
    """A layer's weights as (inputs, outputs), float64, its bias the last row."""
    import torch

    values = module.weight.detach().to(torch.float64)
    matrix = values if kind == "transposed" else values.reshape(len(values), -1).T
    return matrix.clone() if module.bias is None else torch.cat([matrix, module.bias.detach().to(torch.float64)[None]])


def _folds(
    target: Target, module: Any, seen: Seen, maps: Maps, weights: Sequence[float], *, of_parents: bool
) -> list[Normal]:
    """The normal equations of every fold of the data; of_parents: on the parents' features, else on the merged model's own."""
    folds: list[Normal] = []
    for b in range(len(seen.inputs[0])):
        part = _normal(target, module, seen, b, maps, weights, of_parents=of_parents)
        if len(folds) < FOLDS:
            folds.append(part)
        else:
            folds[b % FOLDS] += part
    return folds


def _normal(
    target: Target, module: Any, seen: Seen, b: int, maps: Maps, weights: Sequence[float], *, of_parents: bool
) -> Normal:
    kind, mask = target.layer.kind, seen.inputs[0][b].batch.get(target.layer.mask or "")
    follow = None if of_parents or seen.shares is None else seen.shares[b]
    y = _mean(seen.outputs, target.outer, follow, b, maps, weights, kind, mask)
    if seen.before is not None:
        y = y - channels_last(seen.before[b].values, kind, mask)
    if of_parents or seen.fed is None:
        like = seen.inputs[0][b].values
        x = _as_fed(_mean(seen.inputs, target.inner, None, b, maps, weights, kind, None), like.shape, kind)
    else:
        x = seen.fed[b].values
    return Normal.of(_rows(x, module, kind, mask), y)


def _mean(
    stops: Sequence[Sequence[Stop]],
    axes: Sequence[Axis],
    follow: Tensor | None,
    b: int,
    maps: Maps,
    weights: Sequence[float],
    kind: str,
    mask: Tensor | None,
) -> Tensor:
    """The parents' features of one batch in merged units, as rows: each by its weight, or by its share of the row (`follow`)."""
    values = [each[b].values for each in stops]
    shares: Sequence[float | Tensor] = weights
    if follow is not None:
        shares = [shares_of_rows(own, one, kind, mask) for own, one in zip(follow, values, strict=True)]
    return merge_features([channels_last(one, kind, mask) for one in values], axes, maps, shares)


def _as_fed(features: Tensor, shape: Sequence[int], kind: str) -> Tensor:
    """Rows of channels as the module takes them; shape: of a parent's input."""
    if kind == "convolution":
        return features.reshape(shape[0], *shape[2:], -1).movedim(-1, 1)
    return features.reshape(*shape[:-1], -1)


def _rows(x: Tensor, module: Any, kind: str, mask: Tensor | None) -> Tensor:
    """A layer's inputs as rows, with a column of ones where it has a bias."""
    import torch

    is_image = kind == "convolution"
    rows = patches(x, module.kernel_size, module.stride, module.padding) if is_image else channels_last(x, kind, mask)
    return rows if module.bias is None else torch.cat([rows, torch.ones_like(rows[:, :1])], 1)


def _set_statistics(norm: Any, weight: Tensor, normal: Normal) -> None:
    """What the fitted layer's outputs are on the data: their mean and variance."""
    norm.running_mean.copy_(normal.x @ weight / normal.rows)
    norm.running_var.copy_(((weight * (normal.centred.gram @ weight)).sum(0) / normal.rows).clamp_min(0))
