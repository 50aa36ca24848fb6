"""`Carried`: a model of other widths in the base's units, by a map of every group: units left out, joined, or the base's own."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from hubmerge.alignment.common import Specs
from hubmerge.alignment.filling import Flags, entries_apart, filled
from hubmerge.alignment_record import AlignedGroupRecord, InsideRecord
from hubmerge.heterogeneous.align_stage import Alignment, Choice, maps_of
from hubmerge.heterogeneous.maps import GroupMap, Maps, Selection, Soft, encoded_axes
from hubmerge.heterogeneous.matching import GroupMatches
from hubmerge.heterogeneous.record import DECIMALS

if TYPE_CHECKING:
    from torch import Tensor, nn

    from hubmerge.heterogeneous.batches import Batch

__all__ = ["Carried", "carried_by_activations", "carried_by_weights", "carried_units"]


@dataclass(frozen=True)
class Carried:
    """How the units of a model become the base's.

    specs: of the base and of the model, as they are stored.  maps: of every group that is matched, from the model's units to the base's.
    apart: group -> which of the base's units have no partner, (size,), or (outer's size, size) where the group is nested; the entries
    that touch them are the base's own.  groups: what became of each group.
    """

    specs: Specs
    maps: Mapping[str, GroupMap]
    apart: Mapping[str, Flags]
    groups: Mapping[str, AlignedGroupRecord]

    @property
    def digest(self) -> str:
        """sha256 over all maps and units without a partner, as hex."""
        found = hashlib.sha256()
        for name, part in sorted(self.maps.items()):
            found.update(name.encode())
            if isinstance(part, Selection):
                found.update(part.unit.astype("<i8").tobytes() + part.sign.astype("<f8").tobytes())
            else:
                found.update(part.encode.astype("<f8").tobytes() + part.decode.astype("<f8").tobytes())
            found.update(self.apart[name].tobytes() if name in self.apart else b"")
        return found.hexdigest()

    def moved(self, name: str, values: Tensor, base: Mapping[str, Tensor]) -> Tensor:
        """The model's tensor `name` in the base's units and shape, in the type that it has; itself where no group touches it.

        base: the base's tensors, of which those are asked for that have entries of units without a partner.
        """
        import torch

        spec = self.specs[1]
        touched = any(factor.group in self.maps for factor in spec.tensors[name].factors)
        if not (touched and values.is_floating_point()):
            return values
        maps: Maps = {group: (part,) for group, part in self.maps.items()}
        own = encoded_axes(values.to(torch.float64), spec.tensors[name].axes, maps, 0).to(values.dtype).contiguous()
        flags = self.entries_apart(name)
        return filled(own, flags, base[name]) if any(each is not None for each in flags) else own

    def entries_apart(self, name: str) -> tuple[Flags | None, ...]:
        """Which entries of the axes of the base's tensor `name` are the base's own."""
        return entries_apart(self.specs[0], self.specs[0].tensors[name].axes, self.apart)

    def tensors(self, model: Mapping[str, Tensor], base: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """All tensors of the model in the base's units."""
        return {name: self.moved(name, values, base) for name, values in model.items()}


def carried_by_weights(
    specs: Specs,
    base: Mapping[str, Tensor],
    other: Mapping[str, Tensor],
    *,
    widths: Literal["base", "fold"] = "base",
    seed: int = 0,
    without: Collection[str] = (),
) -> Carried:
    """By the weights that connect units: the assignment of `hubmerge.symmetry.match_weights`, rectangular.

    specs: of the base and of the other, alike but for the sizes of groups whose units change places.  base, other: their tensors, which
    are asked for one at a time.  widths: fold, units without a partner join the unit of the base that they are connected most like, or the
    base's take a copy, where the cosine is above 0: a unit of zeros, which does nothing, joins none (`hubmerge.heterogeneous.fold`).
    """
    from hubmerge.alignment.padded import matches_by_weights
    from hubmerge.alignment.weights_alike import with_weights_alike

    matches, before = matches_by_weights(specs, base, other, seed=seed, without=without)
    if widths == "fold":
        matches = with_weights_alike(specs, base, other, matches)
    return carried_units(specs, matches, before=before, widths=widths, min_similarity=_LEAST)


_LEAST = 1e-9
"""A cosine below which two units have nothing in common."""


def carried_by_activations(
    models: Sequence[nn.Module],
    specs: Specs,
    batches: Iterable[Batch],
    *,
    min_similarity: float = 0.0,
    widths: Literal["base", "fold"] = "base",
    without: Collection[str] = (),
) -> Carried:
    """By the correlations of two models' units on the batches; models: the base first.  specs: of both, as they are stored.

    Pairs less alike than `min_similarity` have no partner.  widths: fold, units without one join the most similar unit of the base, or the
    base's take a copy, where these are alike at least `min_similarity` (`hubmerge.heterogeneous.fold`).
    """
    from hubmerge.heterogeneous.evaluating import evaluating
    from hubmerge.heterogeneous.matching import match_by_activations
    from hubmerge.symmetry.verify import spec_of

    with evaluating(models):
        loaded = [spec_of(model) for model in models]
        matches = match_by_activations(
            models, loaded, batches, min_similarity=min_similarity, without=without, tables=widths == "fold"
        )
    return carried_units(specs, matches, widths=widths, min_similarity=min_similarity)


def carried_units(
    specs: Specs,
    matches: Mapping[str, GroupMatches],
    *,
    before: Mapping[str, float] | None = None,
    widths: Literal["base", "fold"] = "base",
    min_similarity: float = 0.0,
) -> Carried:
    """From matches to maps.  before: the similarity of every group's units where they stand, where it is known."""
    choice = Choice(widths=widths, min_similarity=min_similarity)
    maps = {name: parts[1] for name, parts in maps_of(Alignment(choice, (matches,)), specs, {}).items()}
    apart: dict[str, Flags] = {}
    groups: dict[str, AlignedGroupRecord] = {}
    for name, match in matches.items():
        alone = _alone(maps[name])
        if alone.any():
            apart[name] = alone
        own = (before or {}).get(name)
        groups[name] = _record(specs, name, match, maps[name], own)
        for nested, turns in match.inner.items():
            missing = ~turns.any(-1) & ~alone[:, None]
            if missing.any():
                apart[nested] = missing
    return Carried(specs, maps, apart, groups)


def _alone(part: GroupMap) -> Flags:
    """Which of the base's units none of the model's is in."""
    return np.asarray(part.unit < 0 if isinstance(part, Selection) else ~part.encode.any(1))


def _left_out(part: GroupMap, units: int) -> Flags:
    """Which of the model's units are in none of the base's."""
    if isinstance(part, Soft):
        return np.asarray(~part.encode.any(0))
    found = np.ones(units, np.bool_)
    found[part.unit[part.unit >= 0]] = False
    return found


def _record(specs: Specs, name: str, match: GroupMatches, part: GroupMap, before: float | None) -> AlignedGroupRecord:
    paired, units = match.partner >= 0, specs[1].groups[name].size
    alone, left = _alone(part), _left_out(part, units)
    return AlignedGroupRecord(
        row=specs[0].groups[name].row,
        size=match.partner.size,
        units=units,
        moved=int((paired & (match.partner != np.arange(paired.size))).sum()),
        apart=int(alone.sum()),
        left_out=int(left.sum()),
        inside=_inside(specs, match),
        folded=int((~paired & ~alone).sum()) + units - int(left.sum()) - int(paired.sum()),
        similarity=round(float(match.similarity[paired].mean()), DECIMALS) if paired.any() else 0.0,
        before=before if before is None else round(before, DECIMALS),
    )


def _inside(specs: Specs, match: GroupMatches) -> dict[str, InsideRecord]:
    """Groups inside the units of which the two models have other numbers."""
    paired = match.partner >= 0
    return {
        nested: InsideRecord(
            row=specs[0].groups[nested].row,
            size=turns.shape[1],
            units=turns.shape[2],
            apart=int((~turns[paired].any(2)).sum()),
            left_out=int((~turns[paired].any(1)).sum()),
        )
        for nested, turns in match.inner.items()
        if turns.shape[1] != turns.shape[2]
    }
