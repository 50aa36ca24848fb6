"""One layer fitted: from what goes into it and what the parents' layers give, to its weights and its norm's statistics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from hubmerge.heterogeneous.batches import FOLDS
from hubmerge.heterogeneous.layer_rows import as_fed, input_rows, matrix_of, merged_rows, of_base
from hubmerge.heterogeneous.layers import Layer, Norm, channels_last
from hubmerge.heterogeneous.least_squares import Normal, gathered, means_of, ridge_for, solved
from hubmerge.heterogeneous.lockstep import Stop
from hubmerge.heterogeneous.maps import Maps, parents_of_units
from hubmerge.heterogeneous.sample_parts import Part, sample_parts
from hubmerge.heterogeneous.scratch import Scratch
from hubmerge.symmetry.groups import Axis

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Fit", "Seen", "Target", "fit_layer"]


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

    layer: the base's.  inner, outer: None for a parent without this layer; where the layer adds to a stream, outer has the stream's axes in
    it.  norm: the BatchNorm that its output goes to.  stream: the norm behind the sum that its output is added to, with the axes of the
    stream in every parent.
    """

    layer: Layer
    inner: tuple[Axis | None, ...]
    outer: tuple[Axis | None, ...]
    norm: Norm | None = None
    stream: Norm | None = None


@dataclass(frozen=True)
class Seen:
    """What was seen at a layer, batch by batch.

    inputs, outputs: of the layer in every parent, or, where it adds to a stream, the stream behind it instead of outputs; None for a
    parent without the layer, whose stream is the one that it has between the layers before and behind.  fed: what
    goes into the merged model's layer; None where that was not run.  before: the merged model's stream before it.  shares: whom to
    follow on which sample (`hubmerge.heterogeneous.confidence`); None for the parents' weights on all.
    """

    inputs: Sequence[Sequence[Stop] | None]
    outputs: Sequence[Sequence[Stop] | None]
    fed: Sequence[Stop] | None
    before: Sequence[Stop] | None
    shares: Sequence[Tensor] | None = None


def fit_layer(
    target: Target,
    modules: Mapping[str, Any],
    seen: Seen,
    maps: Maps,
    weights: Sequence[float],
    fit: Fit,
    scratch: Scratch | None = None,
) -> None:
    """Set the weights of the merged model's layer, and the statistics of a BatchNorm behind it.

    modules: of the merged model, by name.  weights: the parents' shares where they have a unit in common.  scratch: where the sums of
    large layers are.
    """
    import torch

    module, layer = modules[target.layer.name], target.layer
    allowed = _allowed(target, maps, module)
    prior = matrix_of(module, layer.kind)
    centred = module.bias is None and target.norm is not None
    if fit.inputs != "merged":
        folds = _folds(target, module, seen, maps, weights, scratch, of_parents=True)
        prior, _ = _weights(folds, prior, allowed, fit.ridge, centred=centred)
    if fit.sequential:
        folds = _folds(target, module, seen, maps, weights, scratch, of_parents=False)
        ridge = "auto" if fit.inputs == "auto" else fit.ridge
        prior, whole = _weights(folds, prior, allowed, ridge, centred=centred)
    body = prior if module.bias is None else prior[:-1]
    with torch.no_grad():
        module.weight.copy_(body if layer.kind == "transposed" else body.T.reshape(module.weight.shape))
        if module.bias is not None:
            module.bias.copy_(prior[-1])
        if target.norm is not None and fit.sequential:
            _set_statistics(modules[target.norm.name], body, whole)


def _weights(
    folds: list[Normal], prior: Tensor, allowed: Tensor, ridge: float | Literal["auto"], *, centred: bool
) -> tuple[Tensor, Normal]:
    """A layer's weights, and the sum of the folds, which are used up."""
    if not centred:
        chosen = ridge_for(folds, prior, allowed, ridge)
        whole = gathered(folds)
        return solved(whole, prior, allowed, chosen), whole
    # about the means of all data, which is what the norm behind takes away
    parts = [fold.about(*means_of(folds)) for fold in folds]
    chosen = ridge_for(parts, prior, allowed, ridge)
    return solved(gathered(parts), prior, allowed, chosen), gathered(folds)


def _allowed(target: Target, maps: Maps, module: Any) -> Tensor:
    """(inputs, outputs), bool: which weights are between units that some parent has both of."""
    import torch

    inner, outer = (parents_of_units(axes, maps).double() for axes in (target.inner, target.outer))
    allowed = inner.T @ outer > 0
    if target.layer.kind == "convolution":
        allowed = allowed.repeat_interleave(module.kernel_size[0] * module.kernel_size[1], 0)
    return allowed if module.bias is None else torch.cat([allowed, torch.ones_like(allowed[:1])])


def _folds(
    target: Target,
    module: Any,
    seen: Seen,
    maps: Maps,
    weights: Sequence[float],
    scratch: Scratch | None,
    *,
    of_parents: bool,
) -> list[Normal]:
    """The normal equations of every fold of the data; of_parents: on the parents' features, else on the merged model's own."""
    folds: list[Normal] = []
    for b in range(len(of_base(seen.inputs))):
        part = _normal(target, module, seen, b, maps, weights, of_parents=of_parents)
        if len(folds) < FOLDS:
            folds.append(part if scratch is None else _kept(part, scratch))
        else:
            folds[b % FOLDS] = folds[b % FOLDS].take_in(part)
    return folds


def _kept(fold: Normal, scratch: Scratch) -> Normal:
    gram, cross = scratch.kept((fold.gram, fold.cross), FOLDS)
    return replace(fold, gram=gram, cross=cross)


def _normal(
    target: Target, module: Any, seen: Seen, b: int, maps: Maps, weights: Sequence[float], *, of_parents: bool
) -> Normal:
    """The normal equations of one batch, some samples after the others."""
    kind, batch = target.layer.kind, of_base(seen.inputs)[b].batch
    mask = batch.get(target.layer.mask or "")
    follow = None if of_parents or seen.shares is None else seen.shares[b]
    inputs, outputs = (
        [None if each is None else each[b].values for each in side] for side in (seen.inputs, seen.outputs)
    )
    fed = seen.fed[b].values if seen.fed is not None and not of_parents else None
    before = None if seen.before is None else seen.before[b].values
    every = [each for each in (*inputs, *outputs, fed, before) if each is not None]
    like = next(each for each in inputs if each is not None)
    total: Normal | None = None
    for part in sample_parts(batch, every, module, kind, like):
        own = None if mask is None else part.of(mask)
        shares = None if follow is None else part.of(follow, 1)
        y = merged_rows([_of(part, each) for each in outputs], target.outer, shares, maps, weights, kind, own)
        if before is not None:
            y = y - channels_last(part.of(before), kind, own)
        if fed is None:
            rows = merged_rows([_of(part, each) for each in inputs], target.inner, None, maps, weights, kind, None)
            x = as_fed(rows, part.of(like).shape, kind)
        else:
            x = part.of(fed)
        new = Normal.of(input_rows(x, module, kind, own), y)
        total = new if total is None else total.take_in(new)
    assert total is not None
    return total


def _of(part: Part, values: Tensor | None) -> Tensor | None:
    return None if values is None else part.of(values)


def _set_statistics(norm: Any, weight: Tensor, normal: Normal) -> None:
    """What the fitted layer's outputs are on the data: their mean and variance."""
    norm.running_mean.copy_(normal.x @ weight / normal.rows)
    norm.running_var.copy_(((weight * (normal.centred.gram @ weight)).sum(0) / normal.rows).clamp_min(0))
