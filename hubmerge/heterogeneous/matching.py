"""Which unit of the base is which of another model: assignments from correlations, one group at a time."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hubmerge.heterogeneous.activations import Correlation, correlations_by_group
from hubmerge.heterogeneous.batches import Batch
from hubmerge.heterogeneous.checks import check_shapes
from hubmerge.heterogeneous.passes import AT_ONCE
from hubmerge.symmetry.elements import Monomial
from hubmerge.symmetry.groups import Kind, SymmetrySpec

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["GroupMatches", "match_by_activations", "match_units", "matches_of_weights"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class GroupMatches:
    """How another model's units of one group are matched with the base's.

    partner: for each unit of the base the other's unit, -1 where it has none.  similarity: of each pair, 0 where there is none.
    sign: 1 or -1 for each.  inner: for nested groups, by name: for every pair of units the matrix that takes the other's inner
    features to the base's, (base's units, inner size, other's inner size), orthogonal.  worth: how alike every unit of the base and
    every one of the other are, and signs: 1 or -1, how they are, both (base's units, other's units); None where only the assignment is known.
    """

    partner: NDArray[np.int64]
    similarity: Floats
    sign: Floats
    inner: Mapping[str, Floats] = field(default_factory=dict)
    worth: Floats | None = None
    signs: Floats | None = None

    @property
    def matched(self) -> int:
        return int((self.partner >= 0).sum())

    @property
    def assigned(self) -> GroupMatches:
        """The same without its tables, which take as much as the square of the units."""
        return replace(self, worth=None, signs=None)


def match_units(
    spec: SymmetrySpec,
    found: Mapping[str, Correlation],
    *,
    min_similarity: float = 0.0,
    without: Collection[str] = (),
) -> dict[str, GroupMatches]:
    """The assignment of every group of which something was seen that makes the sum of its correlations largest.

    Where the models have different numbers of units, those that are left over have no partner; nor have pairs less alike than
    `min_similarity`.  Units that hold others (heads) are worth what the best assignment of their inner features is worth, which
    is found first.  Where these may be rotated they are assigned all the same: rotations (Procrustes) merged worse.  Units
    between (query heads of a key-value head) are assigned under the assignment of the features that they share.
    without: groups, by name or by their row in the table, that stay as they are.
    """
    matches, left = {}, spec.named(without)
    for name, correlation in found.items():
        group = spec.groups[name]
        if group.outer is not None or name in left or not group.kind.permutes:
            continue
        worth = np.abs(correlation.plain) if group.kind.signs else correlation.plain.copy()
        inner: dict[str, Floats] = {}
        weight = 1.0 if worth.any() else 0.0
        for nested, values in correlation.nested.items():
            pairs = np.swapaxes(values, 1, 2)
            if _is_assigned(spec.groups[nested].kind):
                inner[nested], gain = _assigned(pairs)
            else:
                gain = np.trace(pairs, axis1=2, axis2=3) / min(pairs.shape[2:])
            worth += gain
            weight += 1
        for nested, pairs in _between(correlation, inner).items():
            inner[nested], gain = _assigned(pairs)
            worth += gain
            weight += 1
        worth /= max(weight, 1.0)
        rows, columns = _assignment(worth)
        partner = np.full(worth.shape[0], -1, np.int64)
        partner[rows] = columns
        similarity = np.where(partner >= 0, worth[np.arange(partner.size), partner], 0.0)
        partner = np.where(similarity >= min_similarity, partner, -1)
        chosen = np.maximum(partner, 0)
        own = np.arange(partner.size)
        signs = np.where(group.kind.signs & (correlation.plain < 0), -1.0, 1.0)
        matches[name] = GroupMatches(
            partner,
            np.where(partner >= 0, similarity, 0.0),
            signs[own, chosen],
            {nested: turns[own, chosen] for nested, turns in inner.items()},
            worth,
            signs,
        )
    return matches


def match_by_activations(
    models: Sequence[nn.Module],
    specs: Sequence[SymmetrySpec],
    batches: Iterable[Batch],
    *,
    min_similarity: float = 0.0,
    without: Collection[str] = (),
    most: int = AT_ONCE,
    tables: bool = False,
) -> dict[str, GroupMatches]:
    """`match_units` on the correlations of the second model's units with the first's, group by group.

    most: see `correlations_by_group`.  tables: whether the matches keep theirs, which folding and optimal transport read.
    """
    found: dict[str, GroupMatches] = {}
    for (part,) in correlations_by_group(models, specs, batches, without=without, most=most):
        matches = match_units(specs[0], part, min_similarity=min_similarity, without=without)
        found |= matches if tables else {name: each.assigned for name, each in matches.items()}
    return found


def _between(correlation: Correlation, inner: Mapping[str, Floats]) -> dict[str, Floats]:
    """The correlations of the units between for every pair of outer units, by group: (outer, other's, between, other's between).

    inner: the maps of the innermost features, of each of which with its own the correlation is meant.
    """
    found: dict[str, list[Floats]] = {}
    for (name, innermost), values in correlation.between.items():
        eye = np.eye(values.shape[2], values.shape[5])
        turns = inner.get(innermost, np.broadcast_to(eye, (values.shape[0], values.shape[3], *eye.shape)))
        pairs = np.einsum("ijde,imdjne->ijmn", turns, values) / min(eye.shape)
        found.setdefault(name, []).append(pairs)
    return {name: np.mean(views, 0) for name, views in found.items()}


def _is_assigned(kind: Kind) -> bool:
    """Whether the features of this kind may change places inside their unit; those of rotary planes may not."""
    return kind.permutes or kind is Kind.INVERTIBLE


def _assigned(pairs: Floats) -> tuple[Floats, Floats]:
    """The best assignment of the inner features of every pair of outer units, as matrices, and what it is worth.

    pairs: their correlations, (outer, other's outer, inner, other's inner), as are the matrices.
    """
    turns = np.zeros_like(pairs)
    gain = np.zeros(pairs.shape[:2])
    for i, j in np.ndindex(*pairs.shape[:2]):
        rows, columns = _assignment(pairs[i, j])
        turns[i, j, rows, columns] = 1.0
        gain[i, j] = pairs[i, j, rows, columns].mean()
    return turns, gain


def _assignment(worth: Floats) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(worth, maximize=True)
    return rows.astype(np.int64), columns.astype(np.int64)


def matches_of_weights(
    spec: SymmetrySpec,
    base: Mapping[str, Tensor],
    other: Mapping[str, Tensor],
    *,
    seed: int = 0,
    without: Collection[str] = (),
) -> dict[str, GroupMatches]:
    """The same from the weights alone, of models with the same shapes (`hubmerge.symmetry.match_weights`).

    A pair's similarity is its group's, the mean cosine of what its units are connected by.  Where no order is better than the one that the
    units have, every unit is paired with that of its own place.  Raises `PlanError` for shapes that differ.
    """
    ours, theirs = ({name: tuple(values.shape) for name, values in side.items()} for side in (base, other))
    check_shapes(ours, theirs, "the base", "another model")
    from hubmerge.symmetry.match import match_weights

    matching = match_weights(spec, base, other, seed=seed, without=without)
    found = {}
    for name, part in matching.element.items():
        group = spec.groups[name]
        if group.outer is not None or not isinstance(part, Monomial):
            continue
        inner = {
            nested: _turns(part, own)
            for nested, own in matching.element.items()
            if spec.groups[nested].outer == name and isinstance(own, Monomial)
        }
        alike = np.full(group.size, matching.groups[name].similarity)
        found[name] = GroupMatches(part.order, alike, part.factor, inner)
    for name, each in matching.groups.items():
        if name not in matching.element:
            size = spec.groups[name].size
            found[name] = GroupMatches(np.arange(size), np.full(size, each.similarity), np.ones(size), {})
    return found


def _turns(outer: Monomial, inner: Monomial) -> Floats:
    """For every unit of the base the matrix that brings its partner's inner units into its order, with their signs."""
    size = inner.order.shape[-1]
    turns = np.zeros((outer.order.size, size, size))
    for i, j in enumerate(outer.order):
        turns[i, np.arange(size), inner.order[j]] = inner.factor[j]
    return turns
