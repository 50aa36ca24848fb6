"""Models with their residual streams in one basis: gains absorbed in all, every stream but the base's turned to the base's."""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hubmerge.errors import PlanError
from hubmerge.heterogeneous.checks import check_alike
from hubmerge.heterogeneous.maps import Maps, encoded_axes
from hubmerge.heterogeneous.stream_form import Stream, absorbed, stream_of
from hubmerge.heterogeneous.stream_maps import StreamMap, find_stream_map
from hubmerge.heterogeneous.untied import untied
from hubmerge.symmetry.groups import SymmetrySpec
from hubmerge.symmetry.verify import spec_of

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["in_one_basis"]


def in_one_basis(
    models: Sequence[Any], *, unlike: Collection[str] = ()
) -> tuple[tuple[Any, ...], tuple[StreamMap, ...]]:
    """Copies that compute the same, and how every other model's stream was turned to the first's.

    models: of one family, depth and width of the stream.  unlike: groups whose entries are other things in every model (labels).  The
    copies have gains of 1, and heads with rows of their own.  Raises `PlanError` for streams that cannot be turned and for other widths.
    """
    apart = [untied(model) for model in models]
    specs = [spec_of(model) for model in apart]
    check_alike(specs, same_depth=True)
    stream = stream_of(specs[0])
    sizes = [spec.groups[stream.group].size for spec in specs]
    if len(set(sizes)) > 1:
        raise PlanError(
            f"the residual streams have {' and '.join(map(str, sizes))} entries, and are turned into no other width",
            where="align.residual",
            hint="write merge_method: transport, which carries what was learned from one width to another",
        )
    states = [absorbed(spec, stream, model.state_dict()) for spec, model in zip(specs, apart, strict=True)]
    turns = tuple(
        find_stream_map((specs[0], spec), stream, (states[0], state), {}, unlike)
        for spec, state in zip(specs[1:], states[1:], strict=True)
    )
    others = zip(specs[1:], states[1:], turns, strict=True)
    turned = [states[0], *(_turned(spec, stream, state, turn) for spec, state, turn in others)]
    return tuple(_with(model, state) for model, state in zip(apart, turned, strict=True)), turns


def _turned(spec: SymmetrySpec, stream: Stream, state: Mapping[str, Tensor], turn: StreamMap) -> dict[str, Tensor]:
    maps: Maps = {stream.group: (turn.part,)}
    gains = {norm.gain for norm in stream.norms}
    found = dict(state)
    for name, tensor in spec.tensors.items():
        if name not in gains and any(factor.group == stream.group for factor in tensor.factors):
            found[name] = encoded_axes(found[name], tensor.axes, maps, 0)
    return found


def _with(model: Any, state: Mapping[str, Tensor]) -> Any:
    own = copy.deepcopy(model)
    own.load_state_dict({name: state[name].to(before.dtype) for name, before in own.state_dict().items()})
    return own.eval()
