"""`transport_deltas`: what other models learned on top of their own bases, carried to a target of another initialisation or width.

W = W_target + sum of weight * E (W_donor - W_donor's base) D, with E and D of an alignment between the target and the donor's base.

Source: Theseus, arXiv:2602.12952.  Differs from it: one map for each group of units, so that what a layer writes and what the next
reads stay together, where the paper has one for every module's input and output; units are assigned where the symmetry table
says that they only change places, and turned where it allows it.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from hubmerge.errors import PlanError
from hubmerge.heterogeneous.alignment import AlignedGroup, Alignment, align_pair
from hubmerge.heterogeneous.batches import Batch
from hubmerge.heterogeneous.checks import check_alike, check_shapes, check_sizes, known_groups
from hubmerge.heterogeneous.evaluating import evaluating
from hubmerge.heterogeneous.labels import GROUP as LABELS
from hubmerge.heterogeneous.labels import Labels, merged_labels
from hubmerge.heterogeneous.maps import Maps, encoded
from hubmerge.heterogeneous.merging import default_without
from hubmerge.symmetry.groups import SymmetrySpec
from hubmerge.symmetry.verify import spec_of

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Carried", "Donor", "TransportReport", "Transported", "carried_share", "transport_deltas"]


@dataclass(frozen=True)
class Donor:
    """A model, the base that it was trained from, of the same shapes, and the weight of what it learned."""

    model: Any
    base: Any
    weight: float = 1.0


@dataclass(frozen=True)
class Carried:
    """The norm of one tensor's delta, before and after; the share is their quotient, 1 for a delta of nothing."""

    original: float
    carried: float

    @property
    def share(self) -> float:
        return self.carried / self.original if self.original else 1.0


@dataclass(frozen=True)
class TransportReport:
    """Of one donor.  groups: what was aligned; tensors: by name, of every floating-point one."""

    groups: Mapping[str, AlignedGroup]
    tensors: Mapping[str, Carried]

    @property
    def share(self) -> float:
        """The norm of all that was carried over that of the task vector."""
        return carried_share(self.tensors.values())


@dataclass(frozen=True)
class Transported:
    """The target with what was carried to it, in evaluation mode, and a report for each donor."""

    model: Any
    reports: tuple[TransportReport, ...]


def carried_share(tensors: Iterable[Carried]) -> float:
    """The share of the norm over all tensors together; 1 where there was nothing to carry."""
    every = list(tensors)
    before, after = (
        math.sqrt(sum(norm**2 for norm in norms))
        for norms in zip(*((e.original, e.carried) for e in every), strict=True)
    )
    return after / before if before else 1.0


def transport_deltas(
    target: Any,
    donors: Sequence[Donor],
    batches: Iterable[Batch] = (),
    *,
    align: Literal["activations", "weights", "identity"] = "activations",
    min_similarity: float = 0.0,
    without: Collection[str] | None = None,
    labels: Labels | None = None,
    seed: int = 0,
) -> Transported:
    """Add to `target` what every donor learned on top of its base.

    target, donors: transformers models of one architecture and depth in float32; they are not changed.  batches: what `forward` takes,
    for ``align="activations"``.  align: by what the donors' bases are aligned with the target; a base that is the target is not aligned.
    min_similarity: pairs of units less alike are not matched; what a donor learned in units without a partner is not carried.
    without: groups, by name or by row, that stay as they are; default `default_without`.  labels: None or shared, see `merged_labels`.
    A weight of 0 leaves the target bit for bit.

    Raises `SymmetryError` for an architecture without a table, `PlanError` for models that do not go together, and for activations
    without batches.
    """
    data = list(batches)
    if align == "activations" and not data:
        raise PlanError("aligning by activations needs data", where="batches", hint="give batches, or align='weights'")
    with evaluating([target, *(each for donor in donors for each in (donor.model, donor.base))]):
        spec = spec_of(target)
        left = default_without(spec) if without is None else known_groups(spec, without)
        before = target.state_dict()
        sums: dict[str, Tensor] = {}
        reports = []
        for place, donor in enumerate(donors, 1):
            found = _alignment(target, spec, donor, place, data, align, min_similarity, left, labels, seed)
            own = spec_of(donor.base)
            tensors = {}
            for name, delta in _deltas(donor).items():
                moved = _carried(own, name, delta, {group: (part,) for group, part in found.maps.items()})
                tensors[name] = Carried(float(delta.norm()), float(moved.norm()))
                if donor.weight:
                    sums[name] = sums[name] + donor.weight * moved if name in sums else donor.weight * moved
            reports.append(TransportReport(found.groups, tensors))
        merged = {name: _added(values, sums.get(name)) for name, values in before.items()}
        model = copy.deepcopy(target)
        model.load_state_dict({**merged, **{name: merged[stored] for name, stored in spec.tied if name in merged}})
        return Transported(model.eval(), tuple(reports))


def _alignment(
    target: Any,
    spec: SymmetrySpec,
    donor: Donor,
    place: int,
    batches: Sequence[Batch],
    align: Literal["activations", "weights", "identity"],
    least: float,
    without: Collection[str],
    labels: Labels | None,
    seed: int,
) -> Alignment:
    """Of the donor's base with the target, once it is known that all three go together."""
    specs = (spec, spec_of(donor.base))
    names = ("the target", f"donor {place}'s base")
    check_alike(specs, names, same_depth=True)
    ours, theirs = ({name: tuple(v.shape) for name, v in m.state_dict().items()} for m in (donor.base, donor.model))
    check_shapes(
        ours, theirs, names[1], f"donor {place}", where="donors", hint="give the base that the donor was trained from"
    )
    models = (target, donor.base)
    if _are_equal(target, donor.base):
        return Alignment({}, {})
    found = align_pair(models, specs, batches, align, min_similarity=least, without=without, seed=seed)
    maps = dict(found.maps)
    if LABELS in spec.groups:
        configs = [{**model.config.to_dict(), "num_labels": model.config.num_labels} for model in models]
        maps |= {name: parts[1] for name, parts in merged_labels(configs, labels or "shared").maps.items()}
    check_sizes(specs, maps)
    return Alignment(maps, found.groups)


def _are_equal(one: Any, other: Any) -> bool:
    import torch

    ours, theirs = one.state_dict(), other.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(values, theirs[name]) for name, values in ours.items())


def _deltas(donor: Donor) -> dict[str, Tensor]:
    import torch

    base = donor.base.state_dict()
    return {
        name: values.to(torch.float64) - base[name].to(torch.float64)
        for name, values in donor.model.state_dict().items()
        if values.is_floating_point()
    }


def _carried(spec: SymmetrySpec, name: str, delta: Tensor, maps: Maps) -> Tensor:
    """A delta of the donor in the target's units."""
    if name not in spec.tensors:
        return delta
    for position, axis in enumerate(spec.tensors[name].axes):
        delta = encoded(delta.movedim(position, 0), axis, maps, 0).movedim(0, position)
    return delta


def _added(values: Tensor, delta: Tensor | None) -> Tensor:
    return values.clone() if delta is None else (values.to(delta.dtype) + delta).to(values.dtype)
