"""What one model learned on top of its base, in another base's units: the alignment, and the deltas carried by it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from hubmerge.heterogeneous.alignment import AlignedGroup, Alignment, align_pair
from hubmerge.heterogeneous.base_positions import in_base_positions
from hubmerge.heterogeneous.base_vocabulary import in_base_vocabulary
from hubmerge.heterogeneous.batches import Batch
from hubmerge.heterogeneous.checks import check_alike, check_shapes, check_sizes
from hubmerge.heterogeneous.labels import GROUP as LABELS
from hubmerge.heterogeneous.labels import Labels, merged_labels
from hubmerge.heterogeneous.maps import GroupMap, Maps, encoded_axes
from hubmerge.heterogeneous.stream_form import absorbed, restored, stream_of
from hubmerge.heterogeneous.stream_maps import find_stream_map
from hubmerge.recipe_stages import Residual
from hubmerge.symmetry.groups import SymmetrySpec
from hubmerge.symmetry.verify import spec_of

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Asked", "Donor", "MovedDelta", "carried_deltas"]


@dataclass(frozen=True)
class Donor:
    """A model, the base that it was trained from, of the same shapes, and the weight of what it learned.

    tokens: for every row of the target's embeddings the donor's, -1 for none; None where they are the same rows.
    """

    model: Any
    base: Any
    weight: float = 1.0
    tokens: NDArray[np.int64] | None = None

    def in_rows_of(self, target: Any) -> Donor:
        """The donor with rows for the target's tokens and positions alone."""
        model, base = self.model, self.base
        if self.tokens is not None:
            model, base = (in_base_vocabulary(each, self.tokens) for each in (model, base))
        (_, model, base), _ = in_base_positions([target, model, base])
        return replace(self, model=model, base=base, tokens=None)


@dataclass(frozen=True)
class Asked:
    """How to align: see `hubmerge.heterogeneous.transport.transport_deltas`."""

    align: Literal["activations", "weights", "identity"]
    residual: Residual | None
    min_similarity: float
    without: tuple[str, ...]
    labels: Labels | None
    seed: int


@dataclass(frozen=True)
class MovedDelta:
    """values: to be added to the target's tensor, float64.  norm: of the donor's delta; carried: of what of it was carried."""

    values: Tensor
    norm: float
    carried: float


def carried_deltas(
    target: Any, spec: SymmetrySpec, donor: Donor, place: int, batches: Sequence[Batch], asked: Asked
) -> tuple[dict[str, MovedDelta], Mapping[str, AlignedGroup]]:
    """What a donor learned, tensor by tensor, in the target's units, and how its base was aligned with the target.

    spec: of the target.  place: the donor's, as errors count.  Raises `PlanError` for models that do not go together.
    """
    specs = (spec, spec_of(donor.base))
    _check(specs, donor, place)
    if _are_equal(target, donor.base):
        return _moved(specs[1], _differences(donor.model.state_dict(), donor.base.state_dict()), {}), {}
    fixed = _fixed(target, donor, spec, asked)
    if asked.residual == "orthogonal":
        return _turned(target, specs, donor, batches, asked, fixed)
    found = align_pair(
        (target, donor.base), specs, batches, asked.align,
        min_similarity=asked.min_similarity, without=asked.without, seed=asked.seed,
    )  # fmt: skip
    maps = {**found.maps, **fixed}
    check_sizes(specs, maps)
    return _moved(specs[1], _differences(donor.model.state_dict(), donor.base.state_dict()), maps), found.groups


def _turned(
    target: Any,
    specs: tuple[SymmetrySpec, SymmetrySpec],
    donor: Donor,
    batches: Sequence[Batch],
    asked: Asked,
    fixed: Mapping[str, GroupMap],
) -> tuple[dict[str, MovedDelta], Mapping[str, AlignedGroup]]:
    """The same with the donor's residual stream turned to the target's, all gains absorbed on the way."""
    stream = stream_of(specs[0])
    states = (
        absorbed(specs[0], stream, target.state_dict()),
        absorbed(specs[1], stream, donor.base.state_dict()),
    )
    turn = find_stream_map(specs, stream, states, fixed)
    found: Alignment = align_pair(
        (target, donor.base), specs, batches, asked.align,
        min_similarity=asked.min_similarity, without=asked.without, seed=asked.seed, stream=turn, states=states,
    )  # fmt: skip
    maps = {**found.maps, **fixed}
    check_sizes(specs, maps)
    learned = absorbed(specs[1], stream, donor.model.state_dict())
    moved = _moved(specs[1], _differences(learned, states[1]), maps)
    values = {name: each.values for name, each in moved.items()}
    for norm in stream.norms:
        if norm.shift is not None:
            values[norm.shift] = values[norm.shift] * turn.shift
    values = restored(specs[0], stream, values, target.state_dict())
    return {name: MovedDelta(values[name], each.norm, each.carried) for name, each in moved.items()}, found.groups


def _check(specs: tuple[SymmetrySpec, SymmetrySpec], donor: Donor, place: int) -> None:
    names = ("the target", f"donor {place}'s base")
    check_alike(specs, names, same_depth=True)
    ours, theirs = ({name: tuple(v.shape) for name, v in m.state_dict().items()} for m in (donor.base, donor.model))
    hint = "give the base that the donor was trained from"
    check_shapes(ours, theirs, names[1], f"donor {place}", where="donors", hint=hint)


def _are_equal(one: Any, other: Any) -> bool:
    import torch

    ours, theirs = one.state_dict(), other.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(values, theirs[name]) for name, values in ours.items())


def _fixed(target: Any, donor: Donor, spec: SymmetrySpec, asked: Asked) -> dict[str, GroupMap]:
    """The maps that no alignment finds: which label is which."""
    if LABELS not in spec.groups:
        return {}
    configs = [{**model.config.to_dict(), "num_labels": model.config.num_labels} for model in (target, donor.base)]
    return {name: parts[1] for name, parts in merged_labels(configs, asked.labels or "shared").maps.items()}


def _differences(model: Mapping[str, Tensor], base: Mapping[str, Tensor]) -> dict[str, Tensor]:
    import torch

    return {
        name: values.to(torch.float64) - base[name].to(torch.float64)
        for name, values in model.items()
        if values.is_floating_point()
    }


def _moved(spec: SymmetrySpec, deltas: Mapping[str, Tensor], parts: Mapping[str, GroupMap]) -> dict[str, MovedDelta]:
    maps: Maps = {name: (part,) for name, part in parts.items()}
    found = {}
    for name, delta in deltas.items():
        values = encoded_axes(delta, spec.tensors[name].axes, maps, 0) if name in spec.tensors else delta
        found[name] = MovedDelta(values, float(delta.norm()), float(values.norm()))
    return found
