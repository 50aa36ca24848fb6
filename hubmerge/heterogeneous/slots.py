"""From matches to the merged model's units: which parents share one, and which stay one parent's alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from hubmerge.heterogeneous.maps import GroupMap, Selection, Soft
from hubmerge.heterogeneous.matching import GroupMatches
from hubmerge.symmetry.groups import SymmetrySpec

__all__ = ["group_maps", "union_slots", "units_in"]

Slots = NDArray[np.int64]
"""(merged units, parents): the unit of every parent that is in a merged one, -1 where none is."""


def group_maps(
    specs: Sequence[SymmetrySpec], matches: Sequence[Mapping[str, GroupMatches]], sizes: Mapping[str, int]
) -> dict[str, tuple[GroupMap, ...]]:
    """A map for every parent and every group that is not the same in all of them.

    matches: of every parent but the first with the first, the base.  sizes: group -> units in the merged model, where they are not the
    base's: the base's units all stay; others' units that have no partner join them, and after these the units of the pairs that are least
    alike are kept apart, until the size is reached.  A group of fewer units than that takes keeps no more apart than fit.
    """
    maps: dict[str, tuple[GroupMap, ...]] = {}
    for name in _mapped_groups(specs, matches, sizes):
        base, wanted = specs[0].groups[name].size, sizes.get(name, specs[0].groups[name].size)
        own = [
            found.get(name) if name in spec.groups else _no_match(base)
            for found, spec in zip(matches, specs[1:], strict=True)
        ]
        slots, signs = union_slots(base, [units_in(spec, name) for spec in specs[1:]], own, wanted)
        maps[name] = tuple(Selection(slots[:, s], signs[:, s]) for s in range(len(specs)))
        maps |= _inner_maps(specs, name, own, slots)
    return maps


def _mapped_groups(
    specs: Sequence[SymmetrySpec], matches: Sequence[Mapping[str, GroupMatches]], sizes: Mapping[str, int]
) -> Iterator[str]:
    """The groups that are matched, and those that are not but become wider although all parents have them alike."""
    for name, group in specs[0].groups.items():
        is_wider = sizes.get(name, group.size) > group.size
        if any(name in found for found in matches) or (
            is_wider and group.outer is None and all(units_in(spec, name) in {0, group.size} for spec in specs)
        ):
            yield name


def units_in(spec: SymmetrySpec, group: str) -> int:
    """Units of a group; 0 in a model without the layers that have it."""
    return spec.groups[group].size if group in spec.groups else 0


def _no_match(base: int) -> GroupMatches:
    return GroupMatches(np.full(base, -1, np.int64), np.zeros(base), np.ones(base))


def union_slots(
    base: int, others: Sequence[int], matches: Sequence[GroupMatches | None], wanted: int
) -> tuple[Slots, NDArray[np.float64]]:
    """The merged units of one group, the base's first, and their signs, both (wanted, parents).

    others: how many units each other parent has; without matches it has the base's, in their order, all quite alike.
    """
    parents = 1 + len(others)
    slots, signs = np.full((base, parents), -1, np.int64), np.ones((base, parents))
    slots[:, 0] = np.arange(base)
    left_over: list[tuple[float, int, int, float, int]] = []  # how alike, parent, unit, sign, base's unit or -1
    for s, (size, found) in enumerate(zip(others, matches, strict=True), 1):
        own = GroupMatches(np.arange(base), np.ones(base), np.ones(base)) if found is None else found
        slots[:, s], signs[:, s] = own.partner, own.sign
        alone = sorted(set(range(size)) - set(own.partner.tolist()))
        left_over += [(-1.0, s, unit, 1.0, -1) for unit in alone]
        pairs = zip(own.similarity.tolist(), own.partner.tolist(), own.sign.tolist(), strict=True)
        left_over += [(alike, s, unit, sign, i) for i, (alike, unit, sign) in enumerate(pairs) if unit >= 0]
    apart = sorted(left_over, key=lambda each: (each[0], each[1], each[2]))[: max(0, wanted - base)]
    rows, row_signs = [], []
    for _, s, unit, sign, partner_of in apart:
        if partner_of >= 0:
            slots[partner_of, s] = -1
        rows.append([unit if k == s else -1 for k in range(parents)])
        row_signs.append([sign if k == s else 1.0 for k in range(parents)])
    if rows:
        slots, signs = np.vstack([slots, rows]), np.vstack([signs, row_signs])
    empty = max(0, wanted - len(slots))  # in a layer that the other has not, which is as wide as its neighbours
    return np.pad(slots, ((0, empty), (0, 0)), constant_values=-1), np.pad(
        signs, ((0, empty), (0, 0)), constant_values=1
    )


def _inner_maps(
    specs: Sequence[SymmetrySpec], outer: str, matches: Sequence[GroupMatches | None], slots: Slots
) -> dict[str, tuple[GroupMap, ...]]:
    """Maps of the groups inside the units of `outer`, for every unit of each parent.

    Where a parent's units are larger inside than the base's, of a unit that is merged with none the first entries stay.
    """
    names = dict.fromkeys(name for found in matches if found is not None for name in found.inner)
    maps: dict[str, tuple[GroupMap, ...]] = {}
    for name in names:
        parts: list[GroupMap] = []
        for s, spec in enumerate(specs):
            size = units_in(spec, name)
            eye = np.eye(specs[0].groups[name].size, size)
            turns = np.broadcast_to(eye, (units_in(spec, outer), *eye.shape)).copy()
            found = matches[s - 1] if s else None
            if found is not None and name in found.inner:
                shared = np.flatnonzero((slots[: len(found.partner), s] >= 0) & (slots[: len(found.partner), 0] >= 0))
                turns[found.partner[shared]] = found.inner[name][shared]
            parts.append(Soft(turns, np.swapaxes(turns, -1, -2), outer))
        maps[name] = tuple(parts)
    return maps
