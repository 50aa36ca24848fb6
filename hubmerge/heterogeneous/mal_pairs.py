"""The layers of a base and those of one donor, paired: which goes with which, how alike they are, and in which order their units stand."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from hubmerge.errors import PlanError
from hubmerge.heterogeneous.activations import correlations
from hubmerge.heterogeneous.batches import Batch
from hubmerge.heterogeneous.functions import check_functions
from hubmerge.heterogeneous.mal_blocks import Block, blocks_of, structure_of
from hubmerge.heterogeneous.mal_depth import CKA, monotone_map
from hubmerge.heterogeneous.mal_drift import block_rows
from hubmerge.heterogeneous.maps import GroupMap, merge_tensors
from hubmerge.heterogeneous.matching import GroupMatches, match_units
from hubmerge.heterogeneous.slots import group_maps
from hubmerge.symmetry.groups import Axis, Kind, SymmetrySpec, TensorSymmetry
from hubmerge.symmetry.verify import spec_of

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Alignment", "Pair", "align_layers"]


@dataclass(frozen=True)
class Pair:
    """A layer of the base and the layer of a donor that goes with it.

    theirs: None where there is none, and why says it.  cka: of what the two compute, linear.  similarity: of the units, the mean over the
    groups of the layer, a unit without a partner counting 0.
    """

    ours: Block
    theirs: Block | None
    cka: float = 0.0
    similarity: float = 0.0
    why: str = ""

    @property
    def gain(self) -> float:
        """What merging the two is expected to be worth: similarity times CKA, from 0 to 1.  Layers are tried in its order."""
        return max(self.similarity, 0.0) * self.cka


@dataclass(frozen=True)
class Alignment:
    """One donor beside the base.

    pairs: for every layer of the base.  specs: the base's, and the donor's by the base's names of tensors and groups, as far as they are
    paired.  maps: of both, at the base's widths: its units all stay, the donor's without a partner are dropped.
    """

    pairs: tuple[Pair, ...]
    specs: tuple[SymmetrySpec, SymmetrySpec]
    maps: Mapping[str, tuple[GroupMap, ...]]

    def merged(
        self, pair: Pair, ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor], factor: float
    ) -> dict[str, Tensor]:
        """The tensors of the base's layer with `factor` of the donor's in them, by the base's names.

        ours, theirs: tensors of both models, by their own names.  Units that the donor has no partner for keep the base's rows.
        """
        assert pair.theirs is not None
        base = {name: ours[name] for name in pair.ours.tensors.values()}
        donor = {name: theirs[pair.theirs.tensors[ending]] for ending, name in pair.ours.tensors.items()}
        return merge_tensors(self.specs, (base, donor), self.maps, (1 - factor, factor))


def align_layers(
    base: Any,
    donor: Any,
    batches: Sequence[Batch],
    *,
    min_similarity: float = 0.0,
    min_cka: float = 0.0,
    without: Collection[str] = (),
    where: str = "donor",
) -> Alignment:
    """Pair the layers of two transformers models of one family, whatever their widths and depths.

    Inside each stage the map from the base's layers to the donor's keeps their order and makes the sum of linear CKAs largest; pairs below
    `min_cka` are none.  Then every group of units is matched once for all layers that share it, by correlations of activations, both where
    it is written and where it is read: pairs of units below `min_similarity` are none.  without: groups that keep their order.

    Raises `PlanError`, with `where`, for another family, for other rotary frequencies, and for a donor that cannot be given what the base is given.
    """
    specs = spec_of(base), spec_of(donor)
    _check(specs, where)
    check_functions([model.config.to_dict() for model in (base, donor)], ("the base", where))
    pairs = _paired((base, donor), specs, batches, min_cka)
    pairs, renamed = _without_conflicts(specs, pairs)
    ours = _of_blocks(specs[0], pairs)
    if not ours.tensors:
        return Alignment(pairs, (ours, ours), {})
    theirs = _in_names_of_base(specs, pairs, renamed)
    (found,) = correlations((base, donor), (ours, theirs), batches)
    matches = match_units(ours, found, min_similarity=min_similarity, without=without)
    named = {pair.ours.tensors[e]: name for pair in pairs if pair.theirs for e, name in pair.theirs.tensors.items()}
    both = ours, replace(theirs, tensors={name: theirs.tensors[own] for name, own in named.items()})
    maps = group_maps(both, [matches], {})
    return Alignment(tuple(_judged(pair, both, matches, maps) for pair in pairs), both, maps)


def _check(specs: Sequence[SymmetrySpec], where: str) -> None:
    ours, theirs = specs
    if ours.family != theirs.family:
        raise PlanError(
            f"the base is {ours.family}, this model is {theirs.family}", where=where, hint="merge models of one family"
        )
    for name, group in ours.groups.items():
        other = theirs.groups.get(name)
        if other is None or group.size == other.size:
            continue
        if group.kind is Kind.TOKENS or name == "channel":
            what = "tokens" if group.kind is Kind.TOKENS else "channels of pixels"
            raise PlanError(
                f"the base reads {group.size} {what}, this model {other.size}",
                where=where,
                hint="both models are run on the same data; choose another donor",
            )


def _paired(
    models: Sequence[Any], specs: Sequence[SymmetrySpec], batches: Sequence[Batch], least: float
) -> tuple[Pair, ...]:
    """A pair for every layer of the base, in its order; units are not looked at yet."""
    blocks = [blocks_of(spec) for spec in specs]
    stages = {
        stage: [[block for block in each if block.stage == stage] for each in blocks]
        for stage in dict.fromkeys(block.stage for block in blocks[0])
    }
    alike = {stage: CKA() for stage in stages}
    unlike: set[str] = set()
    for batch in batches:
        rows = [block_rows(model, [block.name for block in each], batch) for model, each in zip(models, blocks)]
        for stage, (ours, theirs) in stages.items():
            values = [[own[block.name] for block in each] for own, each in zip(rows, (ours, theirs))]
            if len({len(each) for side in values for each in side}) > 1:
                unlike.add(stage)
            elif theirs:
                alike[stage].add(*values)
    pairs = []
    for stage, (ours, theirs) in stages.items():
        if not theirs or stage in unlike:
            why = "the donor's layers see another number of places" if theirs else "the donor has no such stage"
            pairs += [Pair(block, None, why=why) for block in ours]
            continue
        worth = alike[stage].values()
        made = [[structure_of(specs[side], block) for block in each] for side, each in enumerate((ours, theirs))]
        possible = np.array([[one == other for other in made[1]] for one in made[0]])
        chosen = monotone_map(np.where(possible, worth, -np.inf), least)
        pairs += [_pair(ours[i], theirs, j, worth[i], possible[i]) for i, j in enumerate(chosen)]
    return tuple(pairs)


def _pair(ours: Block, theirs: Sequence[Block], chosen: int, worth: Any, possible: Any) -> Pair:
    if chosen >= 0:
        return Pair(ours, theirs[chosen], float(worth[chosen]))
    why = "its layers are paired with others" if possible.any() else "no layer of its stage has the same structure"
    return Pair(ours, None, why=why)


def _without_conflicts(specs: Sequence[SymmetrySpec], pairs: Sequence[Pair]) -> tuple[tuple[Pair, ...], dict[str, str]]:
    """The donor's groups by the base's names; pairs for which a group would need two names are no more."""
    names: dict[str, str] = {}
    kept = []
    for pair in pairs:
        if pair.theirs is None:
            kept.append(pair)
            continue
        both = [
            (specs[1].tensors[pair.theirs.tensors[ending]].factors, specs[0].tensors[name].factors)
            for ending, name in pair.ours.tensors.items()
        ]
        new = {t.group: o.group for theirs, ours in both for t, o in zip(theirs, ours) if t.group and o.group}
        taken = {**names, **new}
        fits = all(names.get(theirs, ours) == ours for theirs, ours in new.items())
        if fits and len(set(taken.values())) == len(taken):
            names = taken
            kept.append(pair)
        else:
            kept.append(Pair(pair.ours, None, why="its units are shared with layers that it is not paired with"))
    return tuple(kept), names


def _of_blocks(spec: SymmetrySpec, pairs: Sequence[Pair]) -> SymmetrySpec:
    names = [name for pair in pairs if pair.theirs for name in pair.ours.tensors.values()]
    return replace(spec, tensors={name: spec.tensors[name] for name in names}, tied=(), same=())


def _in_names_of_base(specs: Sequence[SymmetrySpec], pairs: Sequence[Pair], names: Mapping[str, str]) -> SymmetrySpec:
    """The donor's paired layers with the base's groups, which have the donor's sizes; tensors by the donor's names.

    A group is what it is in the base, also where the donor's caller sees it.
    """
    ours, theirs = specs
    groups = {new: replace(ours.groups[new], size=theirs.groups[old].size) for old, new in names.items()}
    tensors = {}
    for pair in pairs:
        for name in pair.theirs.tensors.values() if pair.theirs else ():
            own = theirs.tensors[name]
            tensors[name] = TensorSymmetry(
                name, own.row, own.written, tuple(_renamed(axis, names) for axis in own.axes)
            )
    return SymmetrySpec(theirs.family, groups, tensors)


def _renamed(axis: Axis, names: Mapping[str, str]) -> Axis:
    return tuple(
        tuple(replace(factor, group=names[factor.group]) if factor.group else factor for factor in segment)
        for segment in axis
    )


def _judged(
    pair: Pair,
    specs: Sequence[SymmetrySpec],
    matches: Mapping[str, GroupMatches],
    maps: Mapping[str, tuple[GroupMap, ...]],
) -> Pair:
    """The pair with the similarity of its units; none where a group of other size has no map."""
    if pair.theirs is None:
        return pair
    factors = [factor for name in pair.ours.tensors.values() for factor in specs[0].tensors[name].factors]
    groups = [name for name in dict.fromkeys(factor.group for factor in factors) if name is not None]
    for name in groups:
        sizes = specs[0].groups[name].size, specs[1].groups[name].size
        if name not in maps and sizes[0] != sizes[1]:
            return Pair(pair.ours, None, why=f"group {name!r} has {sizes[0]} entries in the base and {sizes[1]} here")
    found = [float(matches[name].similarity.mean()) for name in groups if name in matches]
    return replace(pair, similarity=float(np.mean(found)) if found else 1.0)
