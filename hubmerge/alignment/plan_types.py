"""`PlannedAlignment`: which parents of a merge are brought into which order before their method runs, by what, and what it takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from hubmerge.calibration.check import CalibrationFacts

__all__ = ["MatchedGroup", "PlannedAlignment"]


@dataclass(frozen=True)
class MatchedGroup:
    """A group whose units change places.  row: its name in the family's table."""

    name: str
    row: str
    size: int


@dataclass(frozen=True)
class PlannedAlignment:
    """What can be told of an alignment from headers.

    base: the place, among the plan's parents, of the one whose order is taken; others: of those that are brought into it.
    min_similarity: of pairs of units, None where they are matched by weights.  kept: the groups that stay as they are, with the reason.
    statistics: whether the merge has BatchNorm, whose statistics are then estimated anew where there is data.  copied: bytes of the
    aligned copies, which lie in OUT.partial until the merge is done.  memory: bytes, seconds: of one core; both rough estimates.
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
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def estimates_statistics(self) -> bool:
        """Whether BatchNorm's statistics are estimated anew once the weights are merged."""
        return self.statistics and self.calibration is not None
