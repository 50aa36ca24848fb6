"""How much memory a merge of single layers takes, roughly: all models, what pairs their layers and units, and what a layer is tried on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hubmerge.heterogeneous.blocks import Block, blocks_of
from hubmerge.heterogeneous.mal_structure import block_groups
from hubmerge.symmetry.costs import dense_cost
from hubmerge.symmetry.groups import SymmetrySpec

__all__ = ["mal_memory"]

_SINGLE, _DOUBLE = 4, 8
_COPIES = 7
"""Of the base: itself, one to measure with, the control, the tensors as they become, a model of them, and that as it is written."""
_OF_A_CALL = 4
"""Tensors of a layer's width for every position: its input, its output, what it gives when it is tried, and what is inside."""


def mal_memory(specs: Sequence[SymmetrySpec], positions: Mapping[str, int], usual: int, samples: int) -> int:
    """Bytes above the interpreter and its libraries.

    specs: of the models, the base's first.  positions: of the tensors, for one sample; usual: where it has none of a layer's.  samples: what
    layers are tried on.  Of the donors all are held, and paired with the base one after the other.  Measured above a
    tiny merge: 114, 193 and 257 MB where 104, 167 and 282 are told, for ResNets on noise and on 256 pictures, and BERTs of 6 layers.
    """
    parameters = [dense_cost(spec, {}).parameters for spec in specs]
    models = _SINGLE * (_COPIES * parameters[0] + sum(parameters[1:]))
    pairing = max((_products(specs[0], donor) for donor in specs[1:]), default=0)
    blocks = blocks_of(specs[0])
    places = [
        max((positions[name] for name in block.tensors.values() if name in positions), default=usual)
        for block in blocks
    ]
    widths = [_width(specs[0], block) for block in blocks]
    calls = max((width * place for width, place in zip(widths, places, strict=True)), default=0)
    return models + _DOUBLE * pairing + _SINGLE * _OF_A_CALL * samples * calls


def _products(base: SymmetrySpec, donor: SymmetrySpec) -> int:
    """Entries of the products of all layers' outputs, stage by stage, and of those of all groups of units."""
    ours, theirs = blocks_of(base), blocks_of(donor)
    entries = sum(group.size * donor.groups[name].size for name, group in base.groups.items() if name in donor.groups)
    for stage in dict.fromkeys(block.stage for block in ours):
        own = [_width(base, block) for block in ours if block.stage == stage]
        other = [_width(donor, block) for block in theirs if block.stage == stage]
        entries += sum(width**2 for width in (*own, *other)) + sum(own) * sum(other)
    return entries


def _width(spec: SymmetrySpec, block: Block) -> int:
    """Channels of what a layer gives: the largest group that it shares with other layers."""
    return max((spec.groups[name].size for name in block_groups(spec, block)), default=0)
