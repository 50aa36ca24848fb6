"""`Order`: how one model's units are brought into the order of another's, found from weights or from activations."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from hubmerge.alignment.filling import Flags, entries_apart, filled
from hubmerge.alignment_record import AlignedGroupRecord
from hubmerge.heterogeneous.record import DECIMALS
from hubmerge.symmetry.elements import Element, Monomial
from hubmerge.symmetry.groups import SymmetrySpec

if TYPE_CHECKING:
    from torch import Tensor, nn

    from hubmerge.heterogeneous.batches import Batch
    from hubmerge.heterogeneous.matching import GroupMatches

__all__ = ["Order", "order_by_activations", "order_by_weights"]


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
        from hubmerge.symmetry.transform import transform

        if self._stays(name):
            return values
        moved = transform(self.spec, {name: values}, self.element)[name]
        flags = self.entries_apart(name)
        if not values.is_floating_point() or not any(each is not None for each in flags):
            return moved
        return filled(moved, flags, base[name])

    def entries_apart(self, name: str) -> tuple[Flags | None, ...]:
        """Which entries of the axes of the tensor `name` are the base's own."""
        return entries_apart(self.spec, self.spec.tensors[name].axes, self.apart)

    def _stays(self, name: str) -> bool:
        """Whether every group that the tensor's axes are in stays as it is."""
        names = {factor.group for factor in self.spec.tensors[name].factors if factor.group in self.element}
        parts = [self.element[group] for group in names if group is not None]
        return not names & self.apart.keys() and all(
            isinstance(part, Monomial) and _is_identity(part) for part in parts
        )


def _is_identity(part: Monomial) -> bool:
    return bool((part.order == np.arange(part.order.shape[-1])).all() and (part.factor == 1).all())


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
    from hubmerge.heterogeneous.evaluating import evaluating
    from hubmerge.heterogeneous.matching import match_by_activations
    from hubmerge.symmetry.verify import spec_of

    with evaluating(models):
        specs = [spec_of(model) for model in models]
        matches = match_by_activations(models, specs, batches, min_similarity=min_similarity, without=without)
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
