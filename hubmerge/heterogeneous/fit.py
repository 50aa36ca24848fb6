"""Layers fitted by least squares to what the parents compute: PLeaS' second step (arXiv:2407.02447), and its sequential form.

The published form fits every layer on the parents' own features, brought into the merged units.  The sequential form fits it on
what the merged model itself feeds it, all layers before it being fitted already, so that their errors are mended on the way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from hubmerge.free_memory import return_free_memory
from hubmerge.heterogeneous.batches import Batch
from hubmerge.heterogeneous.confidence import confident_shares
from hubmerge.heterogeneous.depths import resized
from hubmerge.heterogeneous.layer_fit import Fit, Seen, Target, fit_layer
from hubmerge.heterogeneous.layers import Norm, layers_of, norms_of, tied_weights
from hubmerge.heterogeneous.lockstep import Halting, Lockstep, Stop
from hubmerge.heterogeneous.maps import Maps
from hubmerge.heterogeneous.paging import Pager
from hubmerge.heterogeneous.scratch import Scratch
from hubmerge.heterogeneous.uses import uses_of
from hubmerge.symmetry.groups import Axis, SymmetrySpec

if TYPE_CHECKING:
    from torch import nn

__all__ = ["fit_layers"]


def fit_layers(
    merged: nn.Module,
    parents: Sequence[Any],
    specs: Sequence[SymmetrySpec],
    maps: Maps,
    weights: Sequence[float],
    batches: Sequence[Batch],
    fit: Fit,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
    scratch: Scratch | None = None,
) -> None:
    """Change the weights of every linear layer of `merged`, in the order in which the model uses them.

    specs: of the parents, the first having all layers.  All models are run on all batches at once, from layer to layer.  A layer that
    adds to a stream is fitted to the streams of all parents, one without the layer having it as it was; another layer to those that
    have it.  Weights between units that no parent has both stay as they are, and so do layers whose weight is another's too (tied).
    progress: is told after each layer how many of how many are fitted.  scratch: where what the runs hold goes, and the sums of a layer, as
    far as they are larger than half of its room each; None for nowhere.  It changes no number.
    """
    targets = _targets(merged, parents, specs, batches[0], fit)
    axes = {target.stream.axis for target in targets.values() if target.stream is not None}
    along = {axis: {norm.name for norm in norms_of(parents[0], specs[0]) if norm.axis == axis} for axis in axes}
    norms = {name: "input" for names in along.values() for name in names}
    theirs = {name: "input" if target.stream else "both" for name, target in targets.items()}
    own = {**dict.fromkeys(targets, "input"), **norms} if fit.sequential else {}
    modules = dict(merged.named_modules())
    shares = confident_shares(parents, batches, weights) if fit.sequential and fit.follow == "confident" else None
    pager = Pager(scratch, scratch.room // 2) if scratch is not None else None
    with ExitStack() as stack:
        halting = [stack.enter_context(Halting(parent, theirs | norms, batches, pager)) for parent in parents]
        runs = Lockstep(halting, [{name for name, _ in parent.named_modules()} for parent in parents])
        run = stack.enter_context(Halting(merged, own, batches, pager))
        before: list[Stop] | None = None
        fitted = 0
        while (module := runs.module) is not None:
            target = targets.get(module)
            if target is None:  # a norm, whose input is the stream
                before = run.advance()
                runs.advance()
                continue
            inputs = runs.stops({module})
            runs.advance()
            fed = run.advance() if fit.sequential else None
            if fit.sequential and fed is None:
                raise RuntimeError("the models do not use the same layers")
            outputs = runs.stops(along[target.stream.axis] if target.stream else {module})
            seen = Seen(inputs, outputs, fed, before if target.stream else None, shares)
            fit_layer(target, modules, seen, maps, weights, fit, scratch)
            fitted += 1
            return_free_memory()
            progress(fitted, len(targets))
            if target.stream:
                before = run.advance()
            runs.advance()


def _targets(
    merged: nn.Module, parents: Sequence[Any], specs: Sequence[SymmetrySpec], batch: Batch, fit: Fit
) -> dict[str, Target]:
    """The layers to be fitted, by name, in the order in which the first parent uses them."""
    tied = tied_weights(merged)
    own = [
        {layer.name: layer for layer in layers_of(parent, spec)} for parent, spec in zip(parents, specs, strict=True)
    ]
    norms = {norm.name: norm for norm in norms_of(parents[0], specs[0])}
    uses = uses_of(parents[0], {*own[0], *norms}, batch)
    targets: dict[str, Target] = {}
    seen: set[Axis] = set()
    for use, following in zip(uses, [*uses[1:], None], strict=True):
        name = use.module
        if name in norms:
            seen.add(norms[name].axis)
            continue
        if name in tied:
            continue
        norm = norms.get(following.module) if following else None
        streams = fit.stream and fit.sequential and following is not None and use.given == following.taken
        there = [each.get(name) for each in own]
        inner, outer = (tuple(getattr(each, side, None) for each in there) for side in ("inner", "outer"))
        target = Target(own[0][name], inner, outer)
        if norm is not None and norm.kind == "batch":
            target = replace(target, norm=norm)
        elif norm is not None and streams and _adds(specs[0], own[0][name].outer, norm, seen):
            target = replace(target, stream=norm, outer=tuple(resized(own[0][name].outer, spec) for spec in specs))
        targets[name] = target
    return targets


def _adds(spec: SymmetrySpec, outer: Axis, norm: Norm, seen: set[Axis]) -> bool:
    """Whether a layer adds to a stream: what it writes is normalised next, and was before."""
    groups = [factor.group for part in outer for factor in part]
    theirs = [factor.group for part in norm.axis for factor in part]
    return groups == theirs and norm.axis in seen and groups[0] is not None and spec.groups[groups[0]].norm != "post"
