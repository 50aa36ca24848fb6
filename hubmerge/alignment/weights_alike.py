"""How alike every two units of two models are by their weights, once all are matched: what a fold asks beside the pairs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from hubmerge.alignment.common import Specs
from hubmerge.heterogeneous.align_stage import mixable
from hubmerge.heterogeneous.matching import GroupMatches
from hubmerge.heterogeneous.slots import group_maps
from hubmerge.heterogeneous.weight_similarity import weight_similarity

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["with_weights_alike"]


def with_weights_alike(
    specs: Specs, base: Mapping[str, Tensor], other: Mapping[str, Tensor], matches: Mapping[str, GroupMatches]
) -> dict[str, GroupMatches]:
    """The matches with `worth` and `signs` where units may be joined or copied: cosines of all that a unit is connected by.

    specs: of the base and of the other.  matches: by weights, of all groups; the weights to another group's units count as that group is
    matched, and those to units that have no partner there as unlike.
    """
    maps = group_maps(specs, [matches], {})
    found = dict(matches)
    for name in mixable(specs[0]):
        if name in matches:
            alike = weight_similarity(specs, (base, other), maps, name).plain
            signed = specs[0].groups[name].kind.signs
            signs = np.where(signed & (alike < 0), -1.0, 1.0)
            found[name] = replace(matches[name], worth=np.abs(alike) if signed else alike, signs=signs)
    return found
