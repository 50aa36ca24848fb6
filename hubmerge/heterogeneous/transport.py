"""`transport_deltas`: what other models learned on top of their own bases, carried to a target of another initialisation or width.

W = W_target + sum of weight * E (W_donor - W_donor's base) D, with E and D of an alignment between the target and the donor's base.

Source: Theseus, arXiv:2602.12952.  Differs from it: one map for each group of units, so that what a layer writes and what the next
reads stay together, where the paper has one for every module's input and output; units are assigned where the symmetry table
says that they only change places, and turned where it allows it.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from hubmerge.errors import PlanError
from hubmerge.free_memory import return_free_memory
from hubmerge.heterogeneous.alignment import AlignedGroup
from hubmerge.heterogeneous.batches import Batch
from hubmerge.heterogeneous.carrying import Asked, Carrier, Donor, carrier_of
from hubmerge.heterogeneous.checks import check_alike, known_groups
from hubmerge.heterogeneous.evaluating import evaluating, refuse_half
from hubmerge.heterogeneous.labels import Labels
from hubmerge.heterogeneous.merged_tensors import strips
from hubmerge.heterogeneous.merging import default_without
from hubmerge.heterogeneous.model_copies import own_copy
from hubmerge.heterogeneous.stream_form import is_turnable, stream_of
from hubmerge.heterogeneous.stream_kin import Held, best_residual
from hubmerge.heterogeneous.untied import seen_untied, untied
from hubmerge.recipe_stages import Residual
from hubmerge.symmetry.groups import SymmetrySpec
from hubmerge.symmetry.verify import spec_of

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Carried", "Donor", "TransportReport", "Transported", "carried_share", "transport_deltas"]


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
    """Of one donor.  groups: what was aligned; tensors: by name, of every floating-point one; of tied ones of that which is stored."""

    groups: Mapping[str, AlignedGroup]
    tensors: Mapping[str, Carried]

    @property
    def share(self) -> float:
        """The norm of all that was carried over that of the task vector."""
        return carried_share(self.tensors.values())


@dataclass(frozen=True)
class Transported:
    """The target with what was carried to it, in evaluation mode, a report for each donor, and what became of the residual stream."""

    model: Any
    reports: tuple[TransportReport, ...]
    residual: Residual


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
    residual: Residual | None = None,
    min_similarity: float = 0.0,
    without: Collection[str] = (),
    labels: Labels | None = None,
    seed: int = 0,
) -> Transported:
    """Add to `target` what every donor learned on top of its base.

    target, donors: transformers models of one architecture and depth in float32; they are not changed.  batches: what `forward` takes,
    for ``align="activations"``.  align: by what the donors' bases are aligned with the target; a base that is the target is not aligned.
    residual: what becomes of a residual stream under a norm, see `hubmerge.recipe_stages.Residual`; by default it is turned where the
    table allows it and the bases share no ancestor, as far as their weights tell.  min_similarity: pairs of units less alike are not matched;
    what a donor learned in units without a partner is not carried.  without: groups, by name or by row, that stay as they are.
    labels: None or shared, see `merged_labels`.

    A weight of 0 leaves the target bit for bit; but with a turned stream its head has rows of its own, which are those of the
    embeddings where it was tied to them.

    Raises `SymmetryError` for an architecture without a table, `PlanError` for models that do not go together, for a stream that
    cannot be turned, and for activations without batches.
    """
    data = list(batches)
    if align == "activations" and not data:
        raise PlanError("aligning by activations needs data", where="batches", hint="give batches, or align='weights'")
    if data:
        every = {"target": target}
        for i, donor in enumerate(donors):
            every |= {f"donors[{i}].model": donor.model, f"donors[{i}].base": donor.base}
        refuse_half(every)
    with evaluating([target, *(each for donor in donors for each in (donor.model, donor.base))]):
        residual = residual or _best_residual(target, donors, align, without)
        donors = [donor.in_rows_of(target) for donor in donors]
        seen = target
        if residual == "orthogonal":
            stream_of(spec_of(target))
            seen = seen_untied(target)
            donors = [replace(donor, model=seen_untied(donor.model), base=seen_untied(donor.base)) for donor in donors]
        spec = spec_of(seen)
        kept = () if residual == "activations" else default_without(spec)
        asked = Asked(align, residual, min_similarity, (*kept, *known_groups(spec, without)), labels, seed)
        carriers = [carrier_of(seen, spec, donor, place, data, asked) for place, donor in enumerate(donors, 1)]
        return_free_memory()
        model = untied(target) if seen is not target else own_copy(target)
        tensors = _filled(model, spec, carriers, [donor.weight for donor in donors])
        reports = tuple(
            TransportReport(carrier.groups, found) for carrier, found in zip(carriers, tensors, strict=True)
        )
        return Transported(model.eval(), reports, residual)


def _filled(
    model: Any, spec: SymmetrySpec, carriers: Sequence[Carrier], weights: Sequence[float]
) -> list[dict[str, Carried]]:
    """Add to the target's tensors, which `model` has, what is carried; and of every donor its norms.

    Done strip by strip, along an axis that no donor has maps for, so that no large tensor stands in float64.  Names of one
    tensor are told once.
    """
    import torch

    found: list[dict[str, Carried]] = [{} for _ in carriers]
    tied, mapped = dict(spec.tied), {name for carrier in carriers for name in carrier.maps}
    state = model.state_dict()
    done: set[int] = set()
    for name, values in sorted(state.items(), key=lambda each: each[0] not in spec.tensors):
        if not values.is_floating_point() or name in tied or values.data_ptr() in done:
            continue
        done.add(values.data_ptr())
        axes = [
            each.tensors[name].axes for each in (spec, *(carrier.spec for carrier in carriers)) if name in each.tensors
        ]
        norms: list[list[tuple[float, float]]] = [[] for _ in carriers]
        for cut in strips(values.shape, axes, mapped):
            total: Tensor | None = None
            for carrier, weight, own in zip(carriers, weights, norms, strict=True):
                before, after, delta = carrier.delta(name, cut)
                own.append((before, after))
                if weight:
                    total = weight * delta if total is None else total.add_(weight * delta)
            if total is not None:
                place = values if cut is None else values.narrow(*cut)
                with torch.no_grad():
                    place.copy_((place.to(total.dtype) + total).to(values.dtype))
        for own, each in zip(norms, found, strict=True):
            each[name] = Carried(*(math.hypot(*side) for side in zip(*own, strict=True)))
    for name, stored in tied.items():
        if name in state and state[name].data_ptr() != state[stored].data_ptr():
            state[name].copy_(state[stored])
    return found


def _best_residual(target: Any, donors: Sequence[Donor], align: str, without: Collection[str]) -> Residual:
    """Measured (docs/transport.md): between relatives nothing needs to be turned, between strangers turning carries most."""
    specs = [spec_of(model) for model in (target, *(donor.base for donor in donors))]
    if align == "identity" or not is_turnable(specs[0]) or stream_of(specs[0]).group in specs[0].named(without):
        return "keep"
    names = ["the target", *(f"donor {place}'s base" for place in range(1, len(specs)))]
    check_alike(specs, names, same_depth=True)
    held = [Held(model.state_dict()) for model in (target, *(donor.base for donor in donors))]
    return best_residual(held, specs, [donor.tokens for donor in donors], names, carries=True)[0]
