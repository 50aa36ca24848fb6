"""Layers fitted by least squares to what the parents compute: PLeaS' second step (arXiv:2407.02447), and its sequential form.

The published form fits every layer on the parents' own features, brought into the merged units.  The sequential form fits it on
what the merged model itself feeds it, all layers before it being fitted already, so that their errors are mended on the way.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

from hubmerge.heterogeneous.batches import Batch
from hubmerge.heterogeneous.confidence import confident_shares
from hubmerge.heterogeneous.layer_fit import Fit, Seen, Target, fit_layer
from hubmerge.heterogeneous.layers import Norm, layers_of, norms_of
from hubmerge.heterogeneous.lockstep import Halting, Stop
from hubmerge.heterogeneous.maps import Maps
from hubmerge.heterogeneous.uses import uses_of
from hubmerge.symmetry.groups import Axis, SymmetrySpec

if TYPE_CHECKING:
    from torch import nn

__all__ = ["fit_layers"]


def fit_layers(
    merged: nn.Module,
    parents: Sequence[nn.Module],
    specs: Sequence[SymmetrySpec],
    maps: Maps,
    weights: Sequence[float],
    batches: Sequence[Batch],
    fit: Fit,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> None:
    """Change the weights of every linear layer of `merged`, in the order in which the model uses them.

    specs: of the parents.  All models are run on all batches at once, from layer to layer.  Weights between units that no parent
    has both stay as they are, and so do layers whose weight is another's too (tied).  progress: is told after each layer how many of
    how many are fitted.
    """
    targets = _targets(merged, parents, specs, batches[0], fit)
    axes = {target.stream.axis for target in targets.values() if target.stream is not None}
    norms = {norm.name: "input" for norm in norms_of(parents[0], specs[0]) if norm.axis in axes}
    theirs = {name: "input" if target.stream else "both" for name, target in targets.items()}
    own = {**dict.fromkeys(targets, "input"), **norms} if fit.sequential else {}
    modules = dict(merged.named_modules())
    shares = confident_shares(parents, batches, weights) if fit.sequential and fit.follow == "confident" else None
    with ExitStack() as stack:
        runs = [stack.enter_context(Halting(parent, theirs | norms, batches)) for parent in parents]
        run = stack.enter_context(Halting(merged, own, batches))
        before: list[Stop] | None = None
        fitted = 0
        while (inputs := _advanced(runs)) is not None:
            target = targets.get(inputs[0][0].module)
            if target is None:  # a norm, whose input is the stream
                before = run.advance()
                continue
            outputs = _advanced(runs)
            fed = run.advance() if fit.sequential else None
            if outputs is None or (fit.sequential and fed is None):
                raise RuntimeError("the models do not use the same layers")
            seen = Seen(inputs, outputs, fed, before if target.stream else None, shares)
            fit_layer(target, modules, seen, maps, weights, fit)
            fitted += 1
            progress(fitted, len(targets))
            if target.stream:
                before = run.advance()


def _advanced(runs: Sequence[Halting]) -> list[list[Stop]] | None:
    found = [run.advance() for run in runs]
    halted = [stops for stops in found if stops is not None]
    if len(halted) not in {0, len(runs)} or len({stops[0].module for stops in halted}) > 1:
        raise RuntimeError("the models do not use the same layers in the same order")
    return halted or None


def _targets(
    merged: nn.Module, parents: Sequence[nn.Module], specs: Sequence[SymmetrySpec], batch: Batch, fit: Fit
) -> dict[str, Target]:
    """The layers to be fitted, by name, in the order in which the first parent uses them."""
    counts = Counter(id(parameter) for _, parameter in merged.named_parameters(remove_duplicate=False))
    own = [
        {layer.name: layer for layer in layers_of(parent, spec)} for parent, spec in zip(parents, specs, strict=True)
    ]
    norms = {norm.name: norm for norm in norms_of(parents[0], specs[0])}
    modules = dict(merged.named_modules())
    uses = uses_of(parents[0], {*own[0], *norms}, batch)
    targets: dict[str, Target] = {}
    seen: set[Axis] = set()
    for use, following in zip(uses, [*uses[1:], None], strict=True):
        name = use.module
        if name in norms:
            seen.add(norms[name].axis)
            continue
        if counts[id(modules[name].weight)] > 1:
            continue
        norm = norms.get(following.module) if following else None
        streams = fit.stream and fit.sequential and following is not None and use.given == following.taken
        target = Target(own[0][name], tuple(each[name].inner for each in own), tuple(each[name].outer for each in own))
        if norm is not None and norm.kind == "batch":
            target = replace(target, norm=norm)
        elif norm is not None and streams and _adds(specs[0], target.outer[0], norm, seen):
            target = replace(target, stream=norm)
        targets[name] = target
    return targets


def _adds(spec: SymmetrySpec, outer: Axis, norm: Norm, seen: set[Axis]) -> bool:
    """Whether a layer adds to a stream: what it writes is normalised next, and was before."""
    groups = [factor.group for part in outer for factor in part]
    theirs = [factor.group for part in norm.axis for factor in part]
    return groups == theirs and norm.axis in seen and groups[0] is not None and spec.groups[groups[0]].norm != "post"
