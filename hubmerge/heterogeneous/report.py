"""What became of the units of a merge in memory, group by group, and what it costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hubmerge.heterogeneous.block_pairs import PairedDepth
from hubmerge.heterogeneous.maps import GroupMap, Selection
from hubmerge.heterogeneous.matching import GroupMatches
from hubmerge.heterogeneous.slots import units_in
from hubmerge.symmetry.costs import Cost, Sharing, block_cost, dense_cost
from hubmerge.symmetry.groups import SymmetrySpec

__all__ = ["GroupReport", "Report", "report_of", "warnings_of"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class GroupReport:
    """What became of one group.

    sizes: of the parents; merged: of the merge.  matched: units of each other parent that share one with the base's; similarity: the
    mean over these pairs, for each other parent.  support: for each parent, of how many of its units one of the merge's is made: e to
    the power of the entropy of their shares, the mean over the units that it has a part in; largest_support: the most of any.
    """

    sizes: tuple[int, ...]
    merged: int
    matched: tuple[int, ...]
    similarity: tuple[float, ...]
    support: tuple[float, ...] = ()
    largest_support: tuple[float, ...] = ()

    @property
    def is_mixed(self) -> bool:
        """Whether some unit of the merge is made of several of one parent's."""
        return any(most > 1 + _ROUNDING for most in self.largest_support)


_ROUNDING = 1e-6


@dataclass(frozen=True)
class Report:
    """What was aligned and how far.

    cost, base_cost: of the merge and of the base, dense; blocks: of the merge without what is zero.  depths: of every other parent how
    its layers went with the base's; None where it has the base's depth.  turned: of every other parent whose residual stream was turned
    to the base's, the mean cosine of what reads or writes both then.
    """

    groups: Mapping[str, GroupReport]
    base_cost: Cost
    cost: Cost
    blocks: Cost
    depths: tuple[PairedDepth | None, ...] = ()
    turned: tuple[float, ...] = ()


def report_of(
    specs: Sequence[SymmetrySpec],
    matches: Sequence[Mapping[str, GroupMatches]],
    maps: Mapping[str, Sequence[GroupMap]],
    merged: SymmetrySpec,
    positions: Mapping[str, int] | None,
) -> Report:
    """The report of a merge; specs: of the parents, the base first; merged: of the merge; positions: as for `dense_cost`."""
    groups: dict[str, GroupReport] = {}
    sharing: dict[str, Sharing] = {}
    for name, own in maps.items():
        if any(not isinstance(each, Selection) and each.outer is not None for each in own):
            continue
        there = np.stack([_has(each) for each in own], 1)
        rows, counts = np.unique(there, axis=0, return_counts=True)
        kinds = zip(rows.tolist(), counts.tolist(), strict=True)
        sharing[name] = tuple((frozenset(s for s, has in enumerate(row) if has), int(count)) for row, count in kinds)
        others = [(own[s], each.get(name)) for s, each in enumerate(matches, 1)]
        together = [_together(own[0], part, found) for part, found in others]
        supports = [_support(each) for each in own]
        groups[name] = GroupReport(
            tuple(units_in(spec, name) for spec in specs),
            len(there),
            tuple(count for count, _ in together),
            tuple(alike for _, alike in together),
            tuple(mean for mean, _ in supports),
            tuple(most for _, most in supports),
        )
    sizes = {name: group.size for name, group in merged.groups.items()}
    base = {name: group.size for name, group in specs[0].groups.items()}
    return Report(
        groups,
        dense_cost(specs[0], base, positions),
        dense_cost(merged, sizes, positions),
        block_cost(merged, sharing, positions),
    )


def warnings_of(report: Report) -> tuple[str, ...]:
    """Groups whose units are means of more than a few of one parent's, which keeps little of what each of them does."""
    return tuple(
        f"{name}: a unit of the merge is a mean of {max(group.support):.1f} units of one model, and keeps little of each"
        for name, group in report.groups.items()
        if group.support and max(group.support) > _A_FEW
    )


_A_FEW = 4


def _has(part: GroupMap) -> NDArray[np.bool_]:
    """Which merged units the parent has a part in."""
    return part.unit >= 0 if isinstance(part, Selection) else (part.encode != 0).any(axis=1)


def _together(base: GroupMap, other: GroupMap, found: GroupMatches | None) -> tuple[int, float]:
    """How many of another parent's units share one with the base's, and the mean similarity of these pairs, each by its share."""
    if isinstance(base, Selection) and isinstance(other, Selection):
        shared = _has(base) & _has(other)
        return int(shared.sum()), _mean_similarity(found, shared)
    pairs = _shares(base).T @ _shares(other)
    if found is None or found.worth is None or not pairs.any():
        return int(pairs.any(0).sum()), 0.0
    return int(pairs.any(0).sum()), float((pairs * found.worth).sum() / pairs.sum())


def _mean_similarity(found: GroupMatches | None, shared: NDArray[np.bool_]) -> float:
    """The mean over the pairs that are merged; 0 where none are.  shared: which merged units are such pairs."""
    if found is None:
        return float(shared.any())
    paired = shared[: found.partner.size] & (found.partner >= 0)
    return float(found.similarity[paired].mean()) if paired.any() else 0.0


def _shares(part: GroupMap) -> Floats:
    """How much of every unit of a parent is in every merged one, without signs: (merged size, parent's size)."""
    if not isinstance(part, Selection):
        return np.abs(part.encode)
    rows = np.flatnonzero(_has(part))
    found = np.zeros((part.unit.size, int(part.unit.max(initial=-1)) + 1))
    found[rows, part.unit[rows]] = 1.0
    return found


def _support(part: GroupMap) -> tuple[float, float]:
    """Of how many of the parent's units a merged one is made that is made of any: the mean and the most."""
    rows = _has(part)
    if isinstance(part, Selection) or not rows.any():
        return float(rows.any()), float(rows.any())
    shares = np.abs(part.encode[rows])
    shares = shares / shares.sum(1, keepdims=True)
    logs: Floats = np.log(shares, out=np.zeros_like(shares), where=shares > 0)
    found = np.exp(-(shares * logs).sum(1))
    return float(found.mean()), float(found.max())
