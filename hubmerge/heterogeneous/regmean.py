"""RegMean: every layer the weights that give, on each parent's own inputs, most nearly what that parent's layer gives.

Jin et al. 2023, Dataless Knowledge Fusion by Merging Weights of Language Models, arXiv:2212.09849, equation 2, in the merged units:
``W = (sum_s G_s + mu)^-1 (sum_s G_s W_s + mu W0)`` with ``G_s = X_s^T X_s``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from hubmerge.free_memory import return_free_memory
from hubmerge.heterogeneous.batches import FOLDS, Batch
from hubmerge.heterogeneous.confidence import confident_shares, shares_of_rows
from hubmerge.heterogeneous.layer_rows import as_fed, input_rows, merged_rows
from hubmerge.heterogeneous.layers import Layer, layers_of, tied_weights
from hubmerge.heterogeneous.least_squares import Normal, ridge_for, solved, summed
from hubmerge.heterogeneous.lockstep import Halting, Lockstep, Stop
from hubmerge.heterogeneous.maps import Maps, encoded_axes, parents_of_units
from hubmerge.heterogeneous.paging import Pager
from hubmerge.heterogeneous.sample_parts import sample_parts
from hubmerge.heterogeneous.scratch import Scratch
from hubmerge.symmetry.groups import SymmetrySpec

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["RegMean", "regmean_layers"]


@dataclass(frozen=True)
class RegMean:
    """How layers are merged.

    non_diagonal: what the products of two different inputs are multiplied with, from 0 to 1, the paper's alpha; at 0 an input is a mean
    by its mean square.  ridge: towards the merged weights, in units of the inputs' mean square; auto: for every layer the one that
    predicts best what was left out.  follow: whose inputs count on which sample: all parents' by their weights, or those of the
    confident ones (`hubmerge.heterogeneous.confidence`), as in the paper each parent has data of its own.
    """

    non_diagonal: float = 0.9
    ridge: float | Literal["auto"] = "auto"
    follow: Literal["confident", "all"] = "confident"


@dataclass(frozen=True)
class _Parent:
    """One parent at one layer.  weight: in merged units, (inputs, outputs).  grams: of its inputs, for every fold of the data."""

    weight: Tensor
    grams: tuple[Tensor, ...]


def regmean_layers(
    merged: nn.Module,
    parents: Sequence[Any],
    specs: Sequence[SymmetrySpec],
    maps: Maps,
    weights: Sequence[float],
    batches: Sequence[Batch],
    how: RegMean,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
    scratch: Scratch | None = None,
) -> None:
    """Change the weights of every linear layer of `merged`; biases and all else stay the parents' mean, as in the paper.

    specs: of the parents, the first having all layers.  A weight between units that no parent has both stays as it is, and so does one
    that is another layer's too (tied).  progress: is told after each layer how many of how many are done.  scratch: as for
    `hubmerge.heterogeneous.fit.fit_layers`.

    Differs from the paper: convolutions are merged too, on their patches; all parents see the same samples, and `how.follow` says whose
    inputs count; the ridge is towards the merged weights and not towards 0.
    """
    tied = tied_weights(merged)
    own = [
        {layer.name: layer for layer in layers_of(parent, spec)} for parent, spec in zip(parents, specs, strict=True)
    ]
    wanted = [name for name in own[0] if name not in tied]
    states = [parent.state_dict() for parent in parents]
    modules = dict(merged.named_modules())
    shares = confident_shares(parents, batches, weights) if how.follow == "confident" else None
    done = 0
    pager = Pager(scratch, scratch.room // 2) if scratch is not None else None
    with ExitStack() as stack:
        stops = dict.fromkeys(wanted, "input")
        halting = [stack.enter_context(Halting(parent, stops, batches, pager)) for parent in parents]
        runs = Lockstep(halting, own)
        while (name := runs.module) is not None:
            inputs = runs.stops({name})
            layers = [each.get(name) for each in own]
            found = {
                s: _Parent(
                    _weight(specs[s], layer, states[s], maps, s),
                    _grams(modules[name], layers, inputs, s, maps, weights, shares, scratch),
                )
                for s, layer in enumerate(layers)
                if layer is not None
            }
            _merge_layer(modules[name], layers, found, maps, how)
            done += 1
            return_free_memory()
            progress(done, len(wanted))
            runs.advance()


def _weight(spec: SymmetrySpec, layer: Layer, state: Mapping[str, Tensor], maps: Maps, parent: int) -> Tensor:
    import torch

    values = encoded_axes(state[layer.weight].to(torch.float64), spec.tensors[layer.weight].axes, maps, parent)
    return values if layer.kind == "transposed" else values.reshape(len(values), -1).T


def _grams(
    module: Any,
    layers: Sequence[Layer | None],
    inputs: Sequence[Sequence[Stop] | None],
    parent: int,
    maps: Maps,
    weights: Sequence[float],
    shares: Sequence[Tensor] | None,
    scratch: Scratch | None,
) -> tuple[Tensor, ...]:
    """The weighted products of one parent's inputs in merged units, fold by fold."""
    import torch

    layer = layers[parent]
    assert layer is not None
    axes = [None if each is None else each.inner for each in layers]
    kind = layer.kind
    found: list[Tensor] = []
    for b, stop in enumerate(inputs[parent] or ()):
        values = stop.values
        gram: Tensor | None = None
        for part in sample_parts(stop.batch, [values], module, kind, values):
            own = part.of(values)
            mask = None if layer.mask is None or layer.mask not in stop.batch else part.of(stop.batch[layer.mask])
            alone = [own if s == parent else None for s in range(len(inputs))]
            rows = merged_rows(alone, axes, None, maps, [1.0] * len(alone), kind, None)
            x = input_rows(as_fed(rows, own.shape, kind), module, kind, mask).to(torch.float64)
            x = x[:, :-1] if module.bias is not None else x
            counts: float | Tensor = weights[parent]
            if shares is not None:
                counts = _counts(part.of(shares[b][parent]), own, kind, mask, len(x))
            new = x.T @ (x * counts)
            gram = new if gram is None else gram.add_(new)
        assert gram is not None
        if len(found) < FOLDS:
            found += (gram,) if scratch is None else scratch.kept((gram,), FOLDS * len(inputs))
        else:
            found[b % FOLDS] += gram
    return tuple(found)


def _counts(shares: Tensor, values: Tensor, kind: str, mask: Tensor | None, rows: int) -> Tensor:
    """The parent's share of every row, (rows, 1); a convolution has as many rows of a sample as it has places of its output."""
    if kind == "convolution":
        return shares.repeat_interleave(rows // len(shares), 0)[:, None]
    return shares_of_rows(shares, values, kind, mask)


def _merge_layer(
    module: Any, layers: Sequence[Layer | None], found: Mapping[int, _Parent], maps: Maps, how: RegMean
) -> None:
    """Outputs that the same parents have are solved together, on the inputs that these have."""
    import torch

    (kind,) = {layer.kind for layer in layers if layer is not None}
    given = module.weight.detach().to(torch.float64)
    prior = given if kind == "transposed" else given.reshape(len(given), -1).T
    inner, outer = (
        parents_of_units([None if each is None else getattr(each, side) for each in layers], maps)
        for side in ("inner", "outer")
    )
    inner = inner.repeat_interleave(len(prior) // inner.shape[1], 1)
    merged = prior.clone()
    owners, which = torch.unique(outer.T, dim=0, return_inverse=True)
    for k, own in enumerate(owners):
        places, outputs = [s for s in found if own[s]], which == k
        if not places:
            continue
        folds = [_normal([found[s] for s in places], fold, outputs, how.non_diagonal) for fold in _folds(found)]
        allowed = inner[places].any(0)[:, None].expand(-1, int(outputs.sum()))
        ridge = ridge_for(folds, prior[:, outputs], allowed, how.ridge)
        merged[:, outputs] = solved(summed(folds), prior[:, outputs], allowed, ridge)
    with torch.no_grad():
        module.weight.copy_(merged if kind == "transposed" else merged.T.reshape(module.weight.shape))


def _folds(found: Mapping[int, _Parent]) -> range:
    return range(len(next(iter(found.values())).grams))


def _normal(parents: Sequence[_Parent], fold: int, outputs: Tensor, non_diagonal: float) -> Normal:
    """The sum over parents of their products, and of these times their weights."""
    import torch

    parts = []
    for parent in parents:
        gram = parent.grams[fold]
        scaled = non_diagonal * gram
        scaled.diagonal().add_((1 - non_diagonal) * gram.diagonal())
        weight = parent.weight[:, outputs]
        cross = scaled @ weight
        nothing = torch.zeros(len(gram), dtype=gram.dtype)
        parts.append(Normal(scaled, cross, nothing, nothing[:0], (weight * cross).sum(0), 0))
    return summed(parts)
