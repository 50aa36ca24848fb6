"""`Order`: how one model's units are brought into the order of another's, found from weights or from activations."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hubmerge.alignment_record import AlignedGroupRecord
from hubmerge.heterogeneous.record import DECIMALS
from hubmerge.symmetry.elements import Element, Monomial
from hubmerge.symmetry.groups import Axis, SymmetrySpec

if TYPE_CHECKING:
    from torch import Tensor, nn

    from hubmerge.heterogeneous.batches import Batch
    from hubmerge.heterogeneous.matching import GroupMatches

__all__ = ["Order", "order_by_activations", "order_by_weights"]

Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Order:
    """How the units of a model are moved.

    element: takes the model to the base's order (`hubmerge.symmetry.transform`).  apart: group -> which of the base's units have no
    partner; the entries that touch them are the base's own.  groups: what became of each group that is matched.
    """

    spec: SymmetrySpec
    element: Element
    groups: Mapping[str, AlignedGroupRecord]
    apart: Mapping[str, Flags] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """sha256 over all orders, signs and units without a partner, as hex."""
        found = hashlib.sha256()
        for name, part in sorted(self.element.items()):
            assert isinstance(part, Monomial)
            found.update(name.encode() + part.order.astype("<i8").tobytes() + part.factor.astype("<f8").tobytes())
            found.update(self.apart[name].tobytes() if name in self.apart else b"")
        return found.hexdigest()

    def moved(self, name: str, values: Tensor, base: Mapping[str, Tensor]) -> Tensor:
        """The model's tensor `name` in the base's order, in the type that it has; itself where nothing of it changes.

        base: the base's tensors, of which those are asked for that have entries of units without a partner.
        """
        import torch

        from hubmerge.symmetry.transform import transform

        if self._stays(name):
            return values
        moved = transform(self.spec, {name: values}, self.element)[name]
        for position, axis in enumerate(self.spec.tensors[name].axes):
            flags = _entries(axis, self.apart) if values.is_floating_point() else None
            if flags is not None:
                moved = moved.clone() if moved is values else moved
                rows = moved.movedim(position, 0)
                rows[torch.from_numpy(flags)] = (
                    base[name].to(values.dtype).movedim(position, 0)[torch.from_numpy(flags)]
                )
        return moved

    def _stays(self, name: str) -> bool:
        """Whether every group that the tensor's axes are in stays as it is."""
        names = {factor.group for factor in self.spec.tensors[name].factors if factor.group in self.element}
        parts = [self.element[group] for group in names if group is not None]
        return not names & self.apart.keys() and all(
            isinstance(part, Monomial) and _is_identity(part) for part in parts
        )


def _is_identity(part: Monomial) -> bool:
    return bool((part.order == np.arange(part.order.shape[-1])).all() and (part.factor == 1).all())


def _entries(axis: Axis, apart: Mapping[str, Flags]) -> Flags | None:
    """Which entries of an axis are of units without a partner; None where there are none."""
    parts = []
    for segment in axis:
        flags = np.zeros([factor.size for factor in segment], np.bool_)
        for i, factor in enumerate(segment):
            if factor.group is not None and factor.group in apart:
                flags |= apart[factor.group].reshape([-1 if k == i else 1 for k in range(len(segment))])
        parts.append(flags.reshape(-1))
    found = np.concatenate(parts) if parts else np.zeros(0, np.bool_)
    return found if found.any() else None


def order_by_weights(
    spec: SymmetrySpec, base: Mapping[str, Tensor], other: Mapping[str, Tensor], *, seed: int, without: Collection[str]
) -> Order:
    """By `hubmerge.symmetry.match_weights`, whose arguments these are; every unit has a partner."""
    from hubmerge.symmetry.match import match_weights

    found = match_weights(spec, base, other, seed=seed, without=without)
    groups = {
        name: AlignedGroupRecord(
            row=spec.groups[name].row,
            size=match.size,
            moved=match.moved,
            similarity=round(match.similarity, DECIMALS),
            before=round(match.before, DECIMALS),
        )
        for name, match in found.groups.items()
    }
    return Order(spec, found.element, groups)


def order_by_activations(
    models: Sequence[nn.Module],
    spec: SymmetrySpec,
    batches: Iterable[Batch],
    *,
    min_similarity: float,
    without: Collection[str],
) -> Order:
    """By the correlations of two models' units on the batches; models: the base's first.  spec: of the second, as it is stored.

    Pairs less alike than `min_similarity` have no partner.
    """
    from hubmerge.heterogeneous.activations import correlations_by_group
    from hubmerge.heterogeneous.evaluating import evaluating
    from hubmerge.heterogeneous.matching import match_units
    from hubmerge.symmetry.verify import spec_of

    with evaluating(models):
        specs = [spec_of(model) for model in models]
        matches: dict[str, GroupMatches] = {}
        for (found,) in correlations_by_group(models, specs, batches, without=without):
            matches |= match_units(specs[0], found, min_similarity=min_similarity, without=without)
    element: dict[str, Monomial] = {}
    apart: dict[str, Flags] = {}
    for name, match in matches.items():
        element |= _monomials(name, match)
        if match.matched < match.partner.size:
            apart[name] = match.partner < 0
    groups = {name: _group_record(spec.groups[name].row, match) for name, match in matches.items()}
    return Order(spec, element, groups, apart)


def _monomials(name: str, match: GroupMatches) -> dict[str, Monomial]:
    """The order of a group, and of what is nested in its units; those without a partner take the places that are left."""
    alone = match.partner < 0
    order = match.partner.copy()
    order[alone] = np.setdiff1d(np.arange(order.size), order[~alone])
    found = {name: Monomial(order, np.where(alone, 1.0, match.sign))}
    for nested, turns in match.inner.items():
        size = turns.shape[-1]
        inner = np.tile(np.arange(size), (order.size, 1))
        inner[order[~alone]] = turns[~alone].argmax(-1)  # of zeros and ones, one in every row
        found[nested] = Monomial(inner, np.ones(inner.shape))
    return found


def _group_record(row: str, match: GroupMatches) -> AlignedGroupRecord:
    paired = match.partner >= 0
    return AlignedGroupRecord(
        row=row,
        size=match.partner.size,
        moved=int((paired & (match.partner != np.arange(paired.size))).sum()),
        apart=int((~paired).sum()),
        similarity=round(float(match.similarity[paired].mean()), DECIMALS) if paired.any() else 0.0,
    )
