"""How much memory a merge of single layers takes, roughly: what pairs layers and units, what is tried, and what comes of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from hubmerge.heterogeneous.block_alike import WIDEST
from hubmerge.heterogeneous.blocks import Block, blocks_of
from hubmerge.heterogeneous.mal_structure import block_groups
from hubmerge.heterogeneous.memory import Needs, living, memory_of_sums
from hubmerge.heterogeneous.passes import AT_ONCE
from hubmerge.symmetry.costs import dense_cost
from hubmerge.symmetry.groups import SymmetrySpec

__all__ = ["mal_needs"]

_SINGLE, _DOUBLE = 4, 8
_OF_A_CALL = 2
"""Tensors of a layer's width for every position that are kept of a call: its input and its output."""
_TRIED = 8
"""A layer that is tried: its tensors in float32, merged in float64 from two, and copied for a call."""


def mal_needs(
    specs: Sequence[SymmetrySpec],
    positions: Mapping[str, int],
    usual: int,
    samples: tuple[int, int],
    bytes_of_a_number: int,
) -> Needs:
    """specs: of the models, the base's first.  positions: of the tensors, for one sample; usual: where it has none of a layer's.  samples: what
    layers are tried on, and those of a batch.  bytes_of_a_number: as the merge is written.

    The base keeps its tensors, so that the merge takes its layers in float32, or all of it as it is written.  Donors are paired one after the
    other.
    """
    blocks, count = blocks_of(specs[0]), samples[0]
    sizes = [sum(math.prod(specs[0].tensors[name].shape) for name in block.tensors.values()) for block in blocks]
    written = 0 if bytes_of_a_number == _SINGLE else bytes_of_a_number * dense_cost(specs[0], {}).parameters
    merge = max(_SINGLE * sum(sizes), written)
    pairs = [(specs[0], donor) for donor in specs[1:]]
    pairing = max((max(min(_products(*pair), AT_ONCE), memory_of_sums(pair)) for pair in pairs), default=0)
    places = [
        max((positions[name] for name in block.tensors.values() if name in positions), default=usual)
        for block in blocks
    ]
    widths = [_width(specs[0], block) for block in blocks]
    calls = max((width * place for width, place in zip(widths, places, strict=True)), default=0)
    every, most = positions or dict.fromkeys(specs[0].tensors, usual), max(places, default=usual)
    return Needs(
        merge,
        max(_SINGLE * _TRIED * max(sizes, default=0), pairing - merge),
        max((living(pair, every) + _SINGLE * most * _seen(pair[1]) for pair in pairs), default=0) * min(samples),
        sums=_SINGLE * _OF_A_CALL * count * calls,
        samples=min(samples),
    )


def _seen(donor: SymmetrySpec) -> int:
    """Channels of what all layers of a donor give, as they are compared."""
    return sum(min(WIDEST, _width(donor, block)) for block in blocks_of(donor))


def _products(base: SymmetrySpec, donor: SymmetrySpec) -> int:
    """Bytes of the products of all layers' outputs, stage by stage."""
    ours, theirs = blocks_of(base), blocks_of(donor)
    entries = 0
    for stage in dict.fromkeys(block.stage for block in ours):
        own = [min(WIDEST, _width(base, block)) for block in ours if block.stage == stage]
        other = [min(WIDEST, _width(donor, block)) for block in theirs if block.stage == stage]
        entries += sum(width**2 for width in (*own, *other)) + sum(own) * sum(other)
    return _DOUBLE * entries


def _width(spec: SymmetrySpec, block: Block) -> int:
    """Channels of what a layer gives: the largest group that it shares with other layers."""
    return max((spec.groups[name].size for name in block_groups(spec, block)), default=0)
