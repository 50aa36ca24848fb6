"""Blocks of a base and of one donor, paired inside each stage, and the donor's tensors by the names that the base has for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hubmerge.heterogeneous.batches import Batch
from hubmerge.heterogeneous.block_alike import Stages, stage_alike
from hubmerge.heterogeneous.block_maps import monotone_map
from hubmerge.heterogeneous.blocks import Block, blocks_of, structure_of
from hubmerge.symmetry.groups import Axis, SymmetrySpec, TensorSymmetry

__all__ = [
    "Pair",
    "PairedDepth",
    "in_names_of_base",
    "in_stages",
    "of_blocks",
    "pair_blocks",
    "same_structure",
    "without_conflicts",
]


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
class PairedDepth:
    """How the layers of a donor of another depth go with the base's.  pairs: for every layer of the base.  left_out: the donor's others."""

    pairs: tuple[Pair, ...]
    left_out: tuple[str, ...]


def in_stages(specs: Sequence[SymmetrySpec]) -> Stages:
    """Stage of the base -> its blocks and the donor's, which may have none there."""
    blocks = [blocks_of(spec) for spec in specs]
    names = dict.fromkeys(block.stage for block in blocks[0])
    ours, theirs = ({name: tuple(block for block in each if block.stage == name) for name in names} for each in blocks)
    return {name: (ours[name], theirs[name]) for name in names}


def same_structure(specs: Sequence[SymmetrySpec], blocks: tuple[Sequence[Block], Sequence[Block]]) -> NDArray[np.bool_]:
    """Which of the base's blocks can be merged with which of the donor's, (blocks, blocks)."""
    ours, theirs = ([structure_of(spec, block) for block in each] for spec, each in zip(specs, blocks, strict=True))
    return np.array([[one == other for other in theirs] for one in ours], np.bool_).reshape(len(ours), len(theirs))


def pair_blocks(
    models: Sequence[Any], specs: Sequence[SymmetrySpec], batches: Sequence[Batch], least: float
) -> tuple[Pair, ...]:
    """A pair for every layer of the base, in its order, by the best sum of CKA less `least`; units are not looked at yet."""
    stages = in_stages(specs)
    alike = stage_alike(models, stages, batches)
    pairs = []
    for stage, (ours, theirs) in stages.items():
        worth = alike[stage]
        if worth is None:
            why = "the donor's layers see another number of places" if theirs else "the donor has no such stage"
            pairs += [Pair(block, None, why=why) for block in ours]
            continue
        possible = same_structure(specs, (ours, theirs))
        chosen = monotone_map(np.where(possible, worth, -np.inf), least)
        pairs += [_pair(ours[i], theirs, j, worth[i], possible[i]) for i, j in enumerate(chosen)]
    return tuple(pairs)


def _pair(ours: Block, theirs: Sequence[Block], chosen: int, worth: Any, possible: Any) -> Pair:
    if chosen >= 0:
        return Pair(ours, theirs[chosen], float(worth[chosen]))
    why = "its layers are paired with others" if possible.any() else "no layer of its stage has the same structure"
    return Pair(ours, None, why=why)


def without_conflicts(
    specs: Sequence[SymmetrySpec], pairs: Sequence[Pair], known: Mapping[str, str] | None = None
) -> tuple[tuple[Pair, ...], dict[str, str]]:
    """The donor's groups by the base's names; pairs for which a group would need two names are no more.

    known: names of groups outside the blocks.
    """
    names = dict(known or {})
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


def of_blocks(spec: SymmetrySpec, pairs: Sequence[Pair]) -> SymmetrySpec:
    """The base's spec of its paired layers alone."""
    names = [name for pair in pairs if pair.theirs for name in pair.ours.tensors.values()]
    return replace(spec, tensors={name: spec.tensors[name] for name in names}, tied=(), same=())


def in_names_of_base(
    specs: Sequence[SymmetrySpec], pairs: Sequence[Pair], names: Mapping[str, str], outside: Sequence[str] = ()
) -> SymmetrySpec:
    """The donor's paired layers with the base's groups, which have the donor's sizes; tensors by the donor's names.

    A group is what it is in the base, also where the donor's caller sees it.  outside: the donor's tensors in no layer that are wanted too.
    """
    ours, theirs = specs
    groups = {new: replace(ours.groups[new], size=theirs.groups[old].size) for old, new in names.items()}
    tensors = {}
    for name in (*outside, *(name for pair in pairs if pair.theirs for name in pair.theirs.tensors.values())):
        own = theirs.tensors[name]
        tensors[name] = TensorSymmetry(name, own.row, own.written, tuple(_renamed(axis, names) for axis in own.axes))
    return SymmetrySpec(theirs.family, groups, tensors)


def _renamed(axis: Axis, names: Mapping[str, str]) -> Axis:
    return tuple(
        tuple(replace(factor, group=names[factor.group]) if factor.group else factor for factor in segment)
        for segment in axis
    )
