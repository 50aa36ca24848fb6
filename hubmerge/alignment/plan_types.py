"""`PlannedAlignment`: which parents of a merge are brought into which order before their method runs, by what, and what it takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from hubmerge.calibration.check import CalibrationFacts
from zoo_index.tensors import TensorMeta

__all__ = ["MatchedGroup", "PlannedAlignment", "ResizedGroup"]


@dataclass(frozen=True)
class MatchedGroup:
    """A group whose units change places.  row: its name in the family's table."""

    name: str
    row: str
    size: int


@dataclass(frozen=True)
class ResizedGroup:
    """A group of which a parent has another number of units than the base.

    parent: its place.  size: the base's units, units: the parent's.  outer: the row of the group in each of whose units it is there once.
    folds: whether units that are too many join another one, and those that are too few are copies.
    """

    parent: int
    name: str
    row: str
    size: int
    units: int
    outer: str | None = None
    folds: bool = False


@dataclass(frozen=True)
class PlannedAlignment:
    """What can be told of an alignment from headers.

    base: the place, among the plan's parents, of the one whose order is taken; others: of those that are brought into it.
    widths: what becomes of units without a partner (base: they are left out, or are the base's own; fold: they join another unit, or are
    a copy of it).  resized: where parents have other numbers of units; stored: (place, name) -> the tensors of such parents as they lie in
    their own files.  min_similarity: of pairs of units, None where they are matched by weights.  kept: the groups that stay as they are,
    with the reason.  statistics: whether the merge has BatchNorm, whose statistics are then estimated anew where there is data.  copied:
    bytes of the aligned copies, which lie in OUT.partial until the merge is done.  memory: bytes, seconds: of one core; both rough
    estimates.
    """

    method: Literal["weights", "activations"]
    base: int
    others: tuple[int, ...]
    family: str
    groups: tuple[MatchedGroup, ...]
    kept: Mapping[str, str]
    min_similarity: float | None
    calibration: CalibrationFacts | None
    statistics: bool
    copied: int
    memory: int
    seconds: float
    widths: Literal["base", "fold"] = "base"
    resized: tuple[ResizedGroup, ...] = ()
    stored: Mapping[tuple[int, str], TensorMeta] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def other_shapes(self) -> frozenset[int]:
        """The places of the parents whose copies have other shapes than they themselves."""
        return frozenset(place for place, _ in self.stored)

    @property
    def estimates_statistics(self) -> bool:
        """Whether BatchNorm's statistics are estimated anew once the weights are merged."""
        return self.statistics and self.calibration is not None
