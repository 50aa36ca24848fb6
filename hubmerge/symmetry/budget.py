"""How wide a merge may get: sizes of the fields that can grow, by the share of units kept apart or under a budget.

The budget is over the dense multiply-adds (`hubmerge.symmetry.costs`), those the merged model really takes.  Nasery et al. 2024,
PLeaS, arXiv:2407.02447, choose ratios with a quadratic program over the cost without zero blocks, and from accuracies measured
for an architecture; here either all fields grow alike, or the field grows next that keeps the most mismatch apart for its cost.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Any, Literal

from hubmerge.symmetry.costs import cost_at, cost_terms, dense_cost
from hubmerge.symmetry.errors import SymmetryError
from hubmerge.symmetry.groups import SymmetrySpec
from hubmerge.symmetry.widened import is_expressible
from hubmerge.symmetry.widths import WidthField

__all__ = ["Policy", "choose_sizes", "sizes_at"]

Policy = Literal["uniform", "greedy"]

_HALVINGS = 50
_Steps = tuple[int, ...]
"""For each field that can grow, how many of its steps."""


def sizes_at(
    fields: Iterable[WidthField],
    config: Mapping[str, Any],
    ratio: float,
    *,
    parents: Sequence[Mapping[str, int]],
) -> dict[str, int]:
    """The fields to set so that this share of each group's units stays apart, as near as steps allow.

    fields, config: of the base.  ratio: 0 for the width of the widest parent, 1 for the sum of all.  parents: the sizes of
    every parent's groups, the base first.  Returns path -> value of the fields that change, for `widened_config`.

    Raises `SymmetryError` when no sizes near can be written into this config.
    """
    space = _Space(fields, config, parents)
    return space.values(space.at(ratio))


def choose_sizes(
    fields: Iterable[WidthField],
    spec: SymmetrySpec,
    config: Mapping[str, Any],
    budget: float,
    similarity: Mapping[str, Iterable[float]] | None = None,
    policy: Policy = "uniform",
    *,
    parents: Sequence[Mapping[str, int]],
    positions: Mapping[str, int] | None = None,
    grown: Mapping[str, int] | None = None,
) -> dict[str, int]:
    """The fields to set so that the merged model's dense multiply-adds are within `budget` times the base's.

    fields, spec, config: of the base.  parents: the sizes of every parent's groups, the base first.  positions: as for
    `cost_terms`.  grown: groups that have another size in the merge whatever its widths are, as labels that are joined; they count
    under the budget.  policy: uniform is the largest ratio of `sizes_at`; greedy grows, step by step, the field with the most
    mismatch kept apart for the multiply-adds it adds, and is never left with more mismatch than uniform.
    similarity: group -> of its matched pairs (for more parents: of every unit merged into one of those before), most alike
    first; 1 is alike, and pairs that it does not have count as 0.  A pair's mismatch is what is missing to 1, a group's the mean
    over its pairs.

    Returns path -> value of the fields that change, for `widened_config`.  Raises `SymmetryError` when the narrowest merge is
    over the budget, as with a parent wider than the base, and when no sizes can be written into this config.
    """
    space = _Space(fields, config, parents)
    price = _price(space, spec, positions, grown or {})
    least = space.at(0.0)
    if price(least) > budget:
        raise SymmetryError(
            f"the narrowest merge of these parents costs {price(least):.2f} times the base, the budget is {budget:g}",
            hint="raise the budget, or keep the widths of the base",
        )
    uniform = _uniform(space, price, budget)
    if policy == "uniform":
        return space.values(uniform)
    mismatch = _mismatch(space, similarity or {})
    greedy = _greedy(space, price, budget, mismatch, least)
    totals = {steps: sum(mismatch(i, count) for i, count in enumerate(steps)) for steps in (uniform, greedy)}
    return space.values(greedy if totals[greedy] <= totals[uniform] else uniform)


class _Space:
    """The fields that can grow, how far each, and which of their sizes a config can have together."""

    def __init__(
        self, fields: Iterable[WidthField], config: Mapping[str, Any], parents: Sequence[Mapping[str, int]]
    ) -> None:
        self.fields = tuple(field for field in fields if not field.kept)
        self.parents = parents
        self._config = config
        ranges = [self._range(field) for field in self.fields]
        self.low: _Steps = tuple(low for low, _ in ranges)
        self.high: _Steps = tuple(high for _, high in ranges)

    def _range(self, field: WidthField) -> tuple[int, int]:
        """The fewest steps that hold the widest parent, and the most that hold no more than all parents."""
        low, high = 0, []
        for group, gain in field.groups:
            widths = [sizes.get(group, 0) for sizes in self.parents]
            low = max(low, -((widths[0] - max(widths)) // gain))
            high.append((sum(widths) - widths[0]) // gain)
        return low, max(low, min(high))

    @property
    def groups(self) -> tuple[tuple[str, int], ...]:
        """Every group that can grow, with what a step of its field adds."""
        return tuple(pair for field in self.fields for pair in field.groups)

    def size(self, group: str, gain: int, count: int) -> int:
        """A group's size after `count` steps of its field."""
        return self.parents[0][group] + gain * count

    def values(self, steps: _Steps) -> dict[str, int]:
        """The config's fields that these steps change."""
        return {
            path: value
            for field, count in zip(self.fields, steps, strict=True)
            if count
            for path, value in field.at(count).items()
        }

    def is_allowed(self, steps: _Steps) -> bool:
        return is_expressible(self._config, self.values(steps))

    def at(self, ratio: float) -> _Steps:
        """The steps nearest to this share of every field's range that a config can have, smaller ones first."""
        wanted = tuple(low + round(ratio * (high - low)) for low, high in zip(self.low, self.high, strict=True))
        if self.is_allowed(wanted):
            return wanted
        farthest = max((high - low for low, high in zip(self.low, self.high, strict=True)), default=0)
        for distance in range(1, farthest + 1):
            for change in (-distance, distance):
                for steps in self._moved(wanted, change):
                    if self.is_allowed(steps):
                        return steps
        raise SymmetryError(
            f"the config cannot have {', '.join(f'{path} {value}' for path, value in self.values(wanted).items())} or sizes near",
            hint="keep the widths of the base",
        )

    def _moved(self, steps: _Steps, change: int) -> Iterable[_Steps]:
        for i, count in enumerate(steps):
            if self.low[i] <= count + change <= self.high[i]:
                yield (*steps[:i], count + change, *steps[i + 1 :])

    def next(self, steps: _Steps, field: int) -> _Steps | None:
        """The fewest more steps of one field that a config can have."""
        for count in range(steps[field] + 1, self.high[field] + 1):
            wider = (*steps[:field], count, *steps[field + 1 :])
            if self.is_allowed(wider):
                return wider
        return None


def _price(
    space: _Space, spec: SymmetrySpec, positions: Mapping[str, int] | None, grown: Mapping[str, int]
) -> Callable[[_Steps], float]:
    """The dense multiply-adds after so many steps, over the base's."""
    like: dict[str, int | str] = {**{name: group.size for name, group in spec.groups.items()}, **grown}
    alike: dict[tuple[int, int, int], str] = {}
    for i, field in enumerate(space.fields):
        for group, gain in field.groups:
            like[group] = alike.setdefault((i, space.size(group, gain, 0), gain), group)
    terms = cost_terms(spec, positions, like)

    def multiply_adds(steps: _Steps) -> int:
        sizes = {group: space.size(group, gain, steps[i]) for (i, _, gain), group in alike.items()}
        return cost_at(terms, sizes).multiply_adds

    base = dense_cost(spec, {}, positions).multiply_adds
    return lambda steps: multiply_adds(steps) / base


def _mismatch(space: _Space, similarity: Mapping[str, Iterable[float]]) -> Callable[[int, int], float]:
    """What merging loses in a field's groups after `count` of its steps: (field, count) -> the sum over its groups.

    In each group it is a mean over all pairs there could be, so that a group counts the same however many units it has.
    """
    together = {group: sum(sizes.get(group, 0) for sizes in space.parents) for group, _ in space.groups}
    sums = {}
    for group, total in together.items():
        lost = [1 - float(alike) for alike in similarity.get(group, ())]
        lost += [1.0] * (total - len(lost))
        pairs = max(1, total - max(sizes.get(group, 0) for sizes in space.parents))
        sums[group] = [lost_so_far / pairs for lost_so_far in accumulate(lost, initial=0.0)]

    def mismatch(field: int, count: int) -> float:
        groups = space.fields[field].groups
        return sum(sums[group][max(0, together[group] - space.size(group, gain, count))] for group, gain in groups)

    return mismatch


def _uniform(space: _Space, price: Callable[[_Steps], float], budget: float) -> _Steps:
    if price(space.at(1.0)) <= budget:
        return space.at(1.0)
    within, over = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = (within + over) / 2
        if price(space.at(middle)) <= budget:
            within = middle
        else:
            over = middle
    return space.at(within)


def _greedy(
    space: _Space,
    price: Callable[[_Steps], float],
    budget: float,
    mismatch: Callable[[int, int], float],
    steps: _Steps,
) -> _Steps:
    """Widen the field that is worth most for its cost, until nothing more is within the budget or saves anything."""
    while True:
        best, most, cost = None, 0.0, price(steps)
        for i, count in enumerate(steps):
            wider = space.next(steps, i)
            if wider is None or price(wider) > budget:
                continue
            saved, added = mismatch(i, count) - mismatch(i, wider[i]), price(wider) - cost
            worth = saved / added if added > 0 else saved * math.inf
            if worth > most:
                best, most = wider, worth
        if best is None:
            return steps
        steps = best
