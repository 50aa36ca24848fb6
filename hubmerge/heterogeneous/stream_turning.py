"""Models with their residual streams in one basis: gains absorbed in all, every stream but the base's turned to the base's."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from hubmerge.errors import PlanError
from hubmerge.heterogeneous.checks import check_alike, check_sizes, matchable
from hubmerge.heterogeneous.labels import GROUP as LABELS
from hubmerge.heterogeneous.maps import Maps, encoded_axes
from hubmerge.heterogeneous.model_copies import own_copy
from hubmerge.heterogeneous.stream_form import Absorbed, Stream, stream_of
from hubmerge.heterogeneous.stream_kin import Held, check_gains
from hubmerge.heterogeneous.stream_maps import StreamMap, find_stream_map
from hubmerge.heterogeneous.untied import seen_untied, untied
from hubmerge.symmetry.groups import SymmetrySpec
from hubmerge.symmetry.verify import spec_of

__all__ = ["in_one_basis"]


def in_one_basis(
    models: Sequence[Any], *, unlike: Collection[str] = ()
) -> tuple[tuple[Any, ...], tuple[StreamMap, ...]]:
    """Copies that compute the same, and how every other model's stream was turned to the first's.

    models: of one family, depth and width of the stream.  unlike: groups whose entries are other things in every model (labels).  The
    copies have gains of 1, and heads with rows of their own; beside them one tensor at a time is in float64.  Raises `PlanError` for
    streams that cannot be turned (`check_gains` too) and for other widths.
    """
    apart = [seen_untied(model) for model in models]
    specs = [spec_of(model) for model in apart]
    check_alike(specs, same_depth=True)
    check_sizes(specs, {*matchable(specs[0], ()), LABELS})
    stream = stream_of(specs[0])
    sizes = [spec.groups[stream.group].size for spec in specs]
    if len(set(sizes)) > 1:
        raise PlanError(
            f"the residual streams have {' and '.join(map(str, sizes))} entries, and are turned into no other width",
            where="align.residual",
            hint="write merge_method: transport, which carries what was learned from one width to another",
        )
    for place, (spec, model) in enumerate(zip(specs, apart, strict=True), 1):
        check_gains(spec, Held(model.state_dict()), f"model {place}")
    states = [Absorbed(spec, stream, model.state_dict(), folds=True) for spec, model in zip(specs, apart, strict=True)]
    turns = tuple(
        find_stream_map((specs[0], spec), stream, (states[0], state), {}, unlike)
        for spec, state in zip(specs[1:], states[1:], strict=True)
    )
    given = zip(models, specs, states, (None, *turns), strict=True)
    return tuple(_turned(model, spec, stream, state, turn) for model, spec, state, turn in given), turns


def _turned(model: Any, spec: SymmetrySpec, stream: Stream, state: Absorbed, turn: StreamMap | None) -> Any:
    """A copy of `model` with the absorbed tensors, those of the stream by `turn`."""
    own = untied(model)
    own = own_copy(model) if own is model else own
    maps: Maps = {} if turn is None else {stream.group: (turn.part,)}
    gains = {norm.gain for norm in stream.norms}
    for name, values in own.state_dict().items():
        found = state[name]
        tensor = spec.tensors.get(name)
        if tensor is not None and name not in gains and any(factor.group in maps for factor in tensor.factors):
            found = encoded_axes(found, tensor.axes, maps, 0)
        values.copy_(found.to(values.dtype))
    return own.eval()
