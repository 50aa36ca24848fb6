"""What one model learned on top of its base, in another base's units: the alignment, and the delta carried by it strip by strip."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from hubmerge.heterogeneous.alignment import AlignedGroup, align_pair
from hubmerge.heterogeneous.base_positions import in_base_positions
from hubmerge.heterogeneous.base_vocabulary import in_base_vocabulary
from hubmerge.heterogeneous.batches import Batch
from hubmerge.heterogeneous.checks import check_alike, check_shapes, check_sizes
from hubmerge.heterogeneous.labels import GROUP as LABELS
from hubmerge.heterogeneous.labels import Labels, merged_labels
from hubmerge.heterogeneous.maps import GroupMap, Maps, encoded_axes
from hubmerge.heterogeneous.merged_tensors import Cut
from hubmerge.heterogeneous.stream_form import Absorbed, Stream, restored, stream_of, strip_of
from hubmerge.heterogeneous.stream_maps import find_stream_map
from hubmerge.recipe_stages import Residual
from hubmerge.symmetry.groups import SymmetrySpec
from hubmerge.symmetry.verify import spec_of

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Asked", "Carrier", "Donor", "carrier_of"]


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
class Carrier:
    """What a donor learned, in the target's units, strip by strip.

    groups: how its base was aligned with the target.  spec: of the donor.  states: the tensors of the donor and of its base, by the target's
    names.  maps: from its units to the target's.  turned: of the target, where the donor's stream is turned to the target's: its
    symmetries, its stream, what shifts are multiplied with, and its tensors.
    """

    groups: Mapping[str, AlignedGroup]
    spec: SymmetrySpec
    states: tuple[Mapping[str, Tensor], Mapping[str, Tensor]]
    maps: Maps
    turned: tuple[SymmetrySpec, Stream, float, Mapping[str, Tensor]] | None = None

    def delta(self, name: str, cut: Cut) -> tuple[float, float, Tensor]:
        """The norm of the delta, the norm of what of it is carried, and what is to be added to the target's tensor, float64.

        cut: a part of the tensor along an axis without maps (`hubmerge.heterogeneous.merged_tensors.strips`).
        """
        import torch

        model, base = (strip_of(state, name, cut).to(torch.float64) for state in self.states)
        delta = model - base
        values = encoded_axes(delta, self.spec.tensors[name].axes, self.maps, 0) if name in self.spec.tensors else delta
        norms = float(delta.norm()), float(values.norm())
        if self.turned is not None:
            spec, stream, shift, target = self.turned
            if any(name == norm.shift for norm in stream.norms):
                values = values * shift
            values = restored(spec, stream, name, values, target)
        return *norms, values


def carrier_of(
    target: Any, spec: SymmetrySpec, donor: Donor, place: int, batches: Sequence[Batch], asked: Asked
) -> Carrier:
    """Align a donor's base with the target.

    spec: of the target.  place: the donor's, as errors count.  Raises `PlanError` for models that do not go together.
    """
    specs = (spec, spec_of(donor.base))
    _check(specs, donor, place)
    learned, base = donor.model.state_dict(), donor.base.state_dict()
    if _are_equal(target.state_dict(), base):
        return Carrier({}, specs[1], (learned, base), {})
    fixed = _fixed(target, donor, spec, asked)
    turn, states, turned = None, None, None
    if asked.residual == "orthogonal":
        stream = stream_of(specs[0])
        states = Absorbed(specs[0], stream, target.state_dict()), Absorbed(specs[1], stream, base)
        turn = find_stream_map(specs, stream, states, fixed)
        turned = (specs[0], stream, turn.shift, target.state_dict())
    found = align_pair(
        (target, donor.base), specs, batches, asked.align,
        min_similarity=asked.min_similarity, without=asked.without, seed=asked.seed, stream=turn, states=states,
    )  # fmt: skip
    maps = {**found.maps, **fixed}
    check_sizes(specs, maps)
    own: Maps = {name: (part,) for name, part in maps.items()}
    if states is None:
        return Carrier(found.groups, specs[1], (learned, base), own)
    return Carrier(found.groups, specs[1], (Absorbed(specs[1], stream, learned), states[1]), own, turned)


def _check(specs: tuple[SymmetrySpec, SymmetrySpec], donor: Donor, place: int) -> None:
    names = ("the target", f"donor {place}'s base")
    check_alike(specs, names, same_depth=True)
    ours, theirs = ({name: tuple(v.shape) for name, v in m.state_dict().items()} for m in (donor.base, donor.model))
    hint = "give the base that the donor was trained from"
    check_shapes(ours, theirs, names[1], f"donor {place}", where="donors", hint=hint)


def _are_equal(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> bool:
    import torch

    return ours.keys() == theirs.keys() and all(torch.equal(values, theirs[name]) for name, values in ours.items())


def _fixed(target: Any, donor: Donor, spec: SymmetrySpec, asked: Asked) -> dict[str, GroupMap]:
    """The maps that no alignment finds: which label is which."""
    if LABELS not in spec.groups:
        return {}
    configs = [{**model.config.to_dict(), "num_labels": model.config.num_labels} for model in (target, donor.base)]
    return {name: parts[1] for name, parts in merged_labels(configs, asked.labels or "shared").maps.items()}
