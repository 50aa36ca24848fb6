"""Which layers of a donor could go with which of the base, as far as headers tell: the same stage, structure, and sizes that can be matched."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from hubmerge.heterogeneous.block_pairs import in_stages
from hubmerge.heterogeneous.blocks import Block, structure_of
from hubmerge.heterogeneous.checks import matchable
from hubmerge.symmetry.groups import SymmetrySpec

__all__ = ["StagePairs", "block_groups", "stage_pairs"]


@dataclass(frozen=True)
class StagePairs:
    """One stage of the base beside that of a donor.

    ours, theirs: the numbers of the layers.  possible: for each of ours, those of theirs that it could be paired with; the CKA of their
    outputs, which only a merge measures, chooses among them.  why: for each of ours, why there is none, empty where there is one.
    """

    stage: str
    ours: tuple[int, ...]
    theirs: tuple[int, ...]
    possible: tuple[tuple[int, ...], ...]
    why: tuple[str, ...]

    @property
    def paired(self) -> int:
        """How many layers of the base have one that they could go with."""
        return sum(bool(each) for each in self.possible)


def stage_pairs(specs: Sequence[SymmetrySpec], without: Collection[str] = ()) -> tuple[StagePairs, ...]:
    """The stages of the base, in its order.  specs: the base's and the donor's; without: groups whose units are not matched."""
    free = matchable(specs[0], without)
    found = []
    for stage, (ours, theirs) in in_stages(specs).items():
        reasons = [[_obstacle(specs, one, other, free) for other in theirs] for one in ours]
        found.append(
            StagePairs(
                stage,
                tuple(block.index for block in ours),
                tuple(block.index for block in theirs),
                tuple(tuple(b.index for b, why in zip(theirs, row, strict=True) if not why) for row in reasons),
                tuple(_reason(row) for row in reasons),
            )
        )
    return tuple(found)


def block_groups(spec: SymmetrySpec, block: Block) -> tuple[str, ...]:
    """The groups of units that the tensors of a layer have, without those that only it has."""
    factors = [factor for name in block.tensors.values() for factor in spec.tensors[name].factors]
    outside = {
        factor.group
        for name, tensor in spec.tensors.items()
        if name not in set(block.tensors.values())
        for factor in tensor.factors
    }
    return tuple(
        dict.fromkeys(factor.group for factor in factors if factor.group in outside and factor.group is not None)
    )


def _reason(row: Sequence[str]) -> str:
    """Why a layer goes with none: that of the donor's first layer of its structure, whose sizes differ, comes first."""
    if not row:
        return "the donor has no such stage"
    if not all(row):
        return ""
    return next((why for why in row if why != _STRUCTURE), _STRUCTURE)


_STRUCTURE = "no layer of its stage has the same structure"


def _obstacle(specs: Sequence[SymmetrySpec], ours: Block, theirs: Block, free: Collection[str]) -> str:
    """What keeps two layers apart; empty for none."""
    if structure_of(specs[0], ours) != structure_of(specs[1], theirs):
        return _STRUCTURE
    for ending, name in sorted(ours.tensors.items()):
        pairs = zip(specs[0].tensors[name].factors, specs[1].tensors[theirs.tensors[ending]].factors, strict=True)
        for own, other in pairs:
            if own.size == other.size or own.group is None:
                continue
            group = specs[0].groups[own.group]
            if group.normed_as_a_whole:
                return f"group {group.name!r} stands under a norm of all its units, and has {own.size} here and {other.size} there"
            if own.group not in free:
                return f"group {group.name!r} is not matched, and has {own.size} entries here and {other.size} there"
    return ""
