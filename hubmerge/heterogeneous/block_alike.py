"""How alike the blocks of two models are, stage by stage, in as many passes over the data as keep what is held below a bound."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hubmerge.heterogeneous.batches import Batch
from hubmerge.heterogeneous.block_maps import CKA
from hubmerge.heterogeneous.block_runs import blocks_by_and_by
from hubmerge.heterogeneous.blocks import Block
from hubmerge.heterogeneous.passes import AT_ONCE

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["WIDEST", "Stages", "stage_alike"]

Floats = NDArray[np.float64]
Stages = dict[str, tuple[tuple[Block, ...], tuple[Block, ...]]]
"""Stage of the base -> its blocks and the donor's, which may have none there."""

WIDEST = 512
"""Channels of features whose products are held: those of 24 blocks with 24 others take 1.3 GB."""

_DOUBLE = 8


def stage_alike(
    models: Sequence[Any], stages: Stages, batches: Sequence[Batch], *, most: int = AT_ONCE
) -> dict[str, Floats | None]:
    """Of every stage the CKA of the base's blocks with the donor's, (blocks, blocks).

    None where the donor has no such stage, and where its blocks see another number of places than the base's.  Of features wider than
    `WIDEST` random projections are compared, so that what is held does not grow with the square of a large model's width.
    most: bytes of products that are held at once: the models are run on the batches as often as it takes, which changes no number.
    """
    parts = _parts(stages, most)
    if len(parts) > 1:  # by the widest that there can be
        parts = _parts(stages, most, _widths(models, stages, batches[0]))
    found: dict[str, list[Floats | None]] = {stage: [] for stage in stages}
    for part in parts:
        for stage, values in _alike(models, part, batches).items():
            found[stage].append(values)
    return {stage: _joined(values) for stage, values in found.items()}


def _joined(parts: Sequence[Floats | None]) -> Floats | None:
    there = [part for part in parts if part is not None]
    return np.concatenate(there) if there and len(there) == len(parts) else None


def _parts(stages: Stages, most: int, widths: Mapping[str, int] | None = None) -> list[Stages]:
    """The stages with blocks of the base that are looked at in one pass: as many as `most` bytes do for, and at least one.

    widths: of all blocks' features, by the blocks' names in front of which is a number, 0 for the base's.
    """

    def width(side: int, block: Block) -> int:
        return WIDEST if widths is None else min(WIDEST, widths[f"{side}.{block.name}"])

    found: list[Stages] = []
    room = 0
    for stage, (ours, theirs) in stages.items():
        if not theirs:
            continue
        others = [width(1, block) for block in theirs]
        own = _DOUBLE * sum(each**2 for each in others)
        for block in ours:
            size = _DOUBLE * width(0, block) * (width(0, block) + sum(others))
            begins = not found or stage not in found[-1]
            if not found or size + begins * own > room:
                found.append({})
                room, begins = most, True
            found[-1][stage] = ((*found[-1].get(stage, ((), ()))[0], block), theirs)
            room -= size + begins * own
    return found


def _widths(models: Sequence[Any], stages: Stages, batch: Batch) -> dict[str, int]:
    found: dict[str, int] = {}
    one = {name: values[:1] for name, values in batch.items()}
    for side, model in enumerate(models):
        names = [block.name for pair in stages.values() for block in pair[side]]
        found |= {f"{side}.{name}": rows.shape[1] for name, rows in blocks_by_and_by(model, names, one)}
    return found


def _alike(models: Sequence[Any], stages: Stages, batches: Sequence[Batch]) -> dict[str, Floats | None]:
    """`stage_alike` in one pass, of stages that the donor has.

    Of a batch what all of the donor's blocks give is held, and what one of the base's does.
    """
    alike = {stage: CKA() for stage in stages}
    for batch in batches:
        names = [block.name for stage in alike for block in stages[stage][1]]
        kept = {name: _narrowed(rows) for name, rows in blocks_by_and_by(models[1], names, batch)}
        theirs = {stage: [kept[block.name] for block in stages[stage][1]] for stage in alike}
        for stage in [stage for stage, rows in theirs.items() if len({len(each) for each in rows}) > 1]:
            del alike[stage]
        for stage, cka in alike.items():
            cka.add_theirs(theirs[stage])
        places = {block.name: (stage, i) for stage in alike for i, block in enumerate(stages[stage][0])}
        for name, rows in blocks_by_and_by(models[0], list(places), batch):
            stage, i = places[name]
            if stage in alike and len(rows) == len(theirs[stage][0]):
                alike[stage].add_ours(i, _narrowed(rows), theirs[stage])
            else:
                alike.pop(stage, None)
    return {stage: alike[stage].values() if stage in alike else None for stage in stages}


def _narrowed(features: Tensor) -> Tensor:
    """Features, (rows, channels), on `WIDEST` random directions where there are more of them; always the same for a width."""
    import torch

    width = features.shape[1]
    if width <= WIDEST:
        return features
    directions = torch.randn(width, WIDEST, generator=torch.Generator().manual_seed(width), dtype=features.dtype)
    return features @ directions
