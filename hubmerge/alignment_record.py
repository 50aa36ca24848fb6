"""`AlignmentRecord`: what a manifest says of parents that were brought into one order of units before their method merged them."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from hubmerge.assembly_record import CalibrationRecord, no_partner

__all__ = ["AlignedGroupRecord", "AlignedParentRecord", "AlignmentRecord", "InsideRecord"]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


class InsideRecord(_Record):
    """A group inside the units of another one, over all pairs of these: apart and left_out as in `AlignedGroupRecord`."""

    row: str
    size: int
    units: int
    apart: int
    left_out: int


class AlignedGroupRecord(_Record):
    """One group of a parent's units.

    row: its name in the family's table.  size: of the base; units: how many the parent has, where that is told.  moved: how many units are
    not where they were; apart: how many of the base's have no partner, and have the base's own values; left_out: how many of the parent's
    are in none of the base's; folded: how many of either without a partner joined another one, or are a copy of it.  inside: by the name
    of a group inside the units (query heads of a key-value head), where the parent has more or fewer of them.  similarity: the mean over
    pairs: of the cosine between the weights that connect them, or of the correlation between their activations; before: the same for
    units that stay where they are, only told of weights.
    """

    row: str
    size: int
    units: int | None = None
    moved: int
    apart: int = 0
    left_out: int = 0
    folded: int = 0
    inside: dict[str, InsideRecord] = {}
    similarity: float
    before: float | None = None


class AlignedParentRecord(_Record):
    """One parent that was brought into the base's order.

    order_sha256: over the orders and signs of all its groups.  share: the norm of what was carried of its weights over theirs; carried:
    the same of every tensor of which not all was.
    """

    reference: str
    order_sha256: str
    groups: dict[str, AlignedGroupRecord]
    share: float = 1.0
    carried: dict[str, float] = {}


class AlignmentRecord(_Record):
    """How the parents were brought into the order of `base_model`.

    min_similarity: of pairs, None where units are matched by weights.  widths: what became of units without a partner.  kept: groups whose
    units stay as they are, with the reason.  statistics: how many BatchNorms had their statistics estimated anew on the calibration data.
    """

    family: str
    base_model: str
    method: Literal["weights", "activations"]
    min_similarity: float | None = None
    widths: Literal["base", "fold"] = "base"
    parents: tuple[AlignedParentRecord, ...]
    kept: dict[str, str] = {}
    calibration: CalibrationRecord | None = None
    statistics: int = 0

    @property
    def warnings(self) -> tuple[str, ...]:
        """What should be known of the merge and shows only once the parents are aligned."""
        return tuple(
            no_partner(parent.reference, self.base_model, self.min_similarity or 0.0)
            for parent in self.parents
            if parent.groups and all(group.apart == group.size for group in parent.groups.values())
        )
