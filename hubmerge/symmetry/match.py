"""Weight matching: the element of a model's symmetries that brings its weights nearest to another model's.  Coordinate descent.

Source: Ainsworth et al. 2023, Git Re-Basin, arXiv:2209.04836, algorithm 1; here over nested groups (heads inside groups of
key-value heads), and over signs where a group allows them.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hubmerge.symmetry.elements import Element, Monomial
from hubmerge.symmetry.groups import Group, Role, Segment, SymmetrySpec
from hubmerge.symmetry.transform import along

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["STATISTICS", "GroupMatch", "Matching", "match_weights"]

Floats = NDArray[np.float64]
Orders = dict[str, Monomial]

STATISTICS = ("running_mean", "running_var")
"""Endings of tensors that are statistics of data, not weights: they follow an alignment and have no say in it."""
_MOST_SWEEPS = 100
_LEAST_GAIN = 1e-9
"""A sweep that gains less than this share of the similarity is the last."""

_LARGE = 4
"""Times as many entries as its inner products a tensor has for which these are worth keeping."""


@dataclass(frozen=True)
class GroupMatch:
    """How well one group's units were matched.

    similarity: the mean over units of the cosine between what a unit of the base is connected by and what its match is; before:
    the same for units that stay where they are.  moved: how many do not.
    """

    size: int
    moved: int
    similarity: float
    before: float


@dataclass(frozen=True)
class Matching:
    """What `match_weights` found.

    element: brings the other model into the base's coordinates (`hubmerge.symmetry.transform`).  similarity: the cosine between
    the weights of both models then, over all tensors that the groups touch; before: without it.  groups: by name.
    """

    element: Element
    similarity: float
    before: float
    groups: Mapping[str, GroupMatch]


def match_weights(
    spec: SymmetrySpec, base: Mapping[str, Tensor], other: Mapping[str, Tensor], *, seed: int = 0, restarts: int = 2,
    without: Collection[str] = (),
) -> Matching:  # fmt: skip
    """Find the permutations (with signs where they are allowed) under which `other` is most similar to `base`.

    spec: of both models, which have the same shapes; their tensors are asked for one at a time, and not kept.  Each group's
    assignment is optimal while the others' stay; groups are visited in an order drawn from `seed`, until a sweep over all of
    them gains nothing.  restarts: further starts, from random assignments; the best end is taken.  without: groups that stay
    as they are, by their names or their rows in the table.  Groups that mix entries (rotations) stay as they are, and factors
    stay 1.
    """
    search = _Search(spec, base, other, without)
    rng = np.random.default_rng(seed)
    ends = [search.descend({}, rng)]
    ends += [search.descend(search.random_start(rng), rng) for _ in range(restarts)]
    similarity, orders = max(ends, key=lambda end: end[0])
    return Matching(orders, similarity, search.similarity({}), search.report(orders))


class _Search:
    """Both models' weights, and what is similar under which orders."""

    def __init__(
        self, spec: SymmetrySpec, base: Mapping[str, Tensor], other: Mapping[str, Tensor], without: Collection[str]
    ) -> None:
        self._spec, self._ours, self._theirs = spec, base, other
        left = spec.named(without)
        free = [group for group in spec.groups.values() if group.kind.permutes and group.name not in left]
        self._outermost = [group for group in free if group.outer is None]
        self._inner: dict[str, list[Group]] = {group.name: [] for group in self._outermost}
        for group in free:
            if group.outer in self._inner:
                self._inner[group.outer].append(group)
        self._names = [
            name
            for name, tensor in spec.tensors.items()
            if not name.endswith(STATISTICS)
            and base[name].is_floating_point()
            and any(factor.group and spec.groups[factor.group].kind.permutes for factor in tensor.factors)
        ]
        self._places = {group.name: list(self._places_of(group.name)) for group in self._outermost}
        self._known: dict[tuple[str, str, int], list[tuple[Segment, Floats]]] = {}
        norms = [sum(float(_exact(side[name]).square().sum()) for name in self._names) for side in (base, other)]
        self._scale = math.sqrt(norms[0] * norms[1]) or 1.0

    def _places_of(self, group: str) -> Iterator[tuple[str, int]]:
        """The tensors and the axes that the group is in."""
        for name in self._names:
            for position, axis in enumerate(self._spec.tensors[name].axes):
                if any(factor.group == group for segment in axis for factor in segment):
                    yield name, position

    def random_start(self, rng: np.random.Generator) -> Orders:
        return {group.name: Monomial(rng.permutation(group.size), np.ones(group.size)) for group in self._outermost}

    def descend(self, orders: Orders, rng: np.random.Generator) -> tuple[float, Orders]:
        """Better and better orders from a start, and the similarity that they reach."""
        best = self.similarity(orders), dict(orders)
        for _ in range(_MOST_SWEEPS):
            orders = dict(best[1])
            for i in rng.permutation(len(self._outermost)):
                orders |= self._assigned(self._outermost[i], orders)
            found = self.similarity(orders)
            if found <= best[0] + _LEAST_GAIN * abs(best[0]):
                return best if best[0] >= found else (found, orders)
            best = found, orders
        return best

    def similarity(self, orders: Orders) -> float:
        """The cosine between the base's weights and the other's under `orders`."""
        total = 0.0
        for name in self._names:
            total += float((_exact(self._ours[name]) * self._moved(name, orders)).sum())
        return total / self._scale

    def _moved(self, name: str, orders: Orders, *, but: str | None = None, position: int | None = None) -> Tensor:
        """The other's tensor under `orders`; along axis `position` without the group `but` and what is nested in it."""
        values = _exact(self._theirs[name])
        left_out = {but, *(group.name for group in self._inner.get(but or "", []))}
        rest = {group: order for group, order in orders.items() if group not in left_out}
        for place, axis in enumerate(self._spec.tensors[name].axes):
            element = rest if place == position else orders
            if any(factor.group in element for segment in axis for factor in segment):
                values = along(values.movedim(place, 0), axis, self._spec, element).movedim(0, place)
        return values

    def _assigned(self, group: Group, orders: Orders) -> Orders:
        """The best order of a group, and of the groups nested in it, while the others stay."""
        signed, plain, nested = self._similarities(group, orders)
        inner: dict[str, dict[tuple[int, int], Monomial]] = {}
        for name, pairs in nested.items():
            inner[name] = {}
            for i, j in np.ndindex(group.size, group.size):
                order, value = _assignment(pairs[i, :, j, :])
                inner[name][i, j] = Monomial(order, np.ones(order.size))
                plain[i, j] += value
        worth = np.abs(signed) + plain if group.kind.signs else signed + plain
        order, _ = _assignment(worth)
        rows = np.arange(group.size)
        signs = np.where(signed[rows, order] < 0, -1.0, 1.0) if group.kind.signs else np.ones(group.size)
        found: Orders = {group.name: Monomial(order, signs)}
        place = np.argsort(order)  # where each entry of the other goes
        for name, chosen in inner.items():
            parts = [chosen[int(place[j]), j] for j in range(group.size)]
            found[name] = Monomial(np.stack([part.order for part in parts]), np.stack([part.factor for part in parts]))
        return found

    def _similarities(self, group: Group, orders: Orders) -> tuple[Floats, Floats, dict[str, Floats]]:
        """Inner products of every unit of the base with every unit of the other.

        The first of them change their sign with the unit's, the second do not; the third are those of nested groups, by name:
        (size, inner size, size, inner size).
        """
        signed, plain = np.zeros((group.size, group.size)), np.zeros((group.size, group.size))
        nested = {each.name: np.zeros((group.size, each.size) * 2) for each in self._inner[group.name]}
        for name, position in self._places[group.name]:
            for segment, product in self._products(group, name, position, orders):
                inner = next((factor.group for factor in segment if factor.group in nested), None)
                role = next(factor.role for factor in segment if factor.group == group.name)
                if inner is not None:
                    nested[inner] += product.reshape(nested[inner].shape)
                elif role is Role.FOLLOWS:
                    plain += product
                else:
                    signed += product
        return signed, plain, nested

    def _products(self, group: Group, name: str, position: int, orders: Orders) -> list[tuple[Segment, Floats]]:
        """The inner products along one axis of a tensor, segment by segment; of a large one that no order changes they are kept."""
        key = (group.name, name, position)
        if key in self._known:
            return self._known[key]
        nested = {each.name for each in self._inner[group.name]}
        moved = self._moved(name, orders, but=group.name, position=position)
        found = []
        for segment, ours, theirs in _segments(self._spec, group.name, name, position, _exact(self._ours[name]), moved):
            inner = next((factor.group for factor in segment if factor.group in nested), None)
            front = [group.name] if inner is None else [group.name, inner]
            left, right = (_unfolded(values, segment, front) for values in (ours, theirs))
            found.append((segment, (left @ right.T).numpy()))
        if moved.numel() > _LARGE * sum(product.size for _, product in found) and self._stands_alone(group, name):
            self._known[key] = found
        return found

    def _stands_alone(self, group: Group, name: str) -> bool:
        """Whether no order of another group changes the tensor, and the group is on one of its axes only, as of an embedding's words."""
        own = {group.name, *(each.name for each in self._inner[group.name])}
        others = {*self._inner, *(each.name for inner in self._inner.values() for each in inner)} - own
        factors = self._spec.tensors[name].factors
        return not any(factor.group in others for factor in factors) and (
            sum(factor.group == group.name for factor in factors) == 1
        )

    def report(self, orders: Orders) -> dict[str, GroupMatch]:
        return {group.name: self._match_of(group, orders) for group in self._outermost}

    def _match_of(self, group: Group, orders: Orders) -> GroupMatch:
        """How near the units are under `orders`, and without the group's own order."""
        own = {group.name, *(each.name for each in self._inner[group.name])}
        rows = np.arange(group.size)
        order = orders[group.name].order if group.name in orders else rows
        found = []
        for chosen in (orders, {name: each for name, each in orders.items() if name not in own}):
            products, norms = np.zeros(group.size), np.zeros((2, group.size))
            for name, position in self._places[group.name]:
                moved = self._moved(name, chosen)
                for segment, ours, theirs in _segments(
                    self._spec, group.name, name, position, _exact(self._ours[name]), moved
                ):
                    left, right = (_unfolded(values, segment, [group.name]) for values in (ours, theirs))
                    products += (left * right).sum(1).numpy()
                    norms += np.stack([each.square().sum(1).numpy() for each in (left, right)])
            scale = np.sqrt(norms[0] * norms[1])
            found.append(float(np.mean(np.divide(products, scale, out=np.zeros_like(products), where=scale > 0))))
        return GroupMatch(group.size, int((order != rows).sum()), found[0], found[1])


def _exact(tensor: Tensor) -> Tensor:
    import torch

    return tensor.to(torch.float64)


def _segments(
    spec: SymmetrySpec, group: str, name: str, position: int, ours: Tensor, theirs: Tensor
) -> Iterator[tuple[Segment, Tensor, Tensor]]:
    """The segments of an axis that `group` is in, brought to the front, of a tensor of both models."""
    axis, start = spec.tensors[name].axes[position], 0
    left, right = ours.movedim(position, 0), theirs.movedim(position, 0)
    for segment in axis:
        stop = start + math.prod(factor.size for factor in segment)
        if any(factor.group == group for factor in segment):
            yield segment, left[start:stop], right[start:stop]
        start = stop


def _unfolded(values: Tensor, segment: Segment, front: list[str]) -> Tensor:
    """(entries of the groups in `front`, everything else) of a segment's values; without rows where one is not in it."""
    names = [factor.group for factor in segment]
    factors = values.reshape(*(factor.size for factor in segment), -1)
    places = [names.index(name) for name in front]
    moved = factors.movedim(places, list(range(len(front))))
    return moved.reshape(math.prod(moved.shape[: len(front)]), -1)


def _assignment(worth: Floats) -> tuple[NDArray[np.int64], float]:
    """For every row the column it is matched with, so that the sum is largest, and that sum."""
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(worth, maximize=True)
    chosen: Any = columns.astype(np.int64)
    return chosen, float(worth[rows, columns].sum())
