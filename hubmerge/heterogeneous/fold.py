"""Units without a partner join the one they are most like, or are copied: widths bridged without leaving units out.

Copies as Net2Wider has them (Chen et al. 2016, Net2Net, arXiv:1511.05641): what reads several copies of a unit reads each of them
divided by their number, so that a narrower model computes in a wider one what it computed.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hubmerge.heterogeneous.maps import Soft
from hubmerge.heterogeneous.matching import GroupMatches

__all__ = ["folded"]

Floats = NDArray[np.float64]


def folded(match: GroupMatches, least: float) -> Soft:
    """The map of another parent's units into the base's.

    match: with `worth`.  Beside the pairs of the assignment, every unit of the other without one joins the unit of the base that it is
    most like, and every unit of the base without one takes a copy of the unit that it is most like, where they are alike at least
    `least`.  A unit of the merge is the mean of the other's that joined it; what reads one of the other's units reads the mean of the
    units that it is in.
    """
    assert match.worth is not None
    paired = _pairs(match)
    linked = paired.copy()
    for links, worth, pairs in ((linked, match.worth, paired), (linked.T, match.worth.T, paired.T)):
        alone = np.flatnonzero(~pairs.any(0))
        nearest = worth[:, alone].argmax(0)
        alike = worth[nearest, alone] >= least
        links[nearest[alike], alone[alike]] = True
    signs = np.ones(linked.shape) if match.signs is None else match.signs
    return Soft(_means(linked, signs), _means(linked.T, signs.T))


def _pairs(match: GroupMatches) -> NDArray[np.bool_]:
    """The assignment as a table: (base's units, the other's)."""
    assert match.worth is not None
    found = np.zeros(match.worth.shape, bool)
    rows = np.flatnonzero(match.partner >= 0)
    found[rows, match.partner[rows]] = True
    return found


def _means(links: NDArray[np.bool_], signs: Floats) -> Floats:
    """Every row's mean over what it is linked with; nothing where that is nothing."""
    found: Floats = links * signs / np.maximum(links.sum(1, keepdims=True), 1)
    return found
