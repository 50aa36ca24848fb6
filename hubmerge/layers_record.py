"""`LayersRecord`: what a manifest says of single layers that were merged into a base: every decision, and the losses beside the control's."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from hubmerge.assembly_record import CalibrationRecord

__all__ = ["CatalogRecord", "DecisionRecord", "LayersRecord", "LossesRecord", "ProbeRecord"]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


class DecisionRecord(_Record):
    """What became of one layer of one donor.

    round: from 1.  donor: its place in `LayersRecord.order`, from 1.  layer: the base's, by name; position: its place there.  donor_layer:
    None where none goes with it.  factor: the donor's share, 0 where it was refused.  drift, loss: at this factor, or at the smallest that
    was tried; None where nothing was measured, and for a number that is not finite.  why: why it was refused, empty where it was not.
    """

    round: int
    donor: int
    layer: str
    position: int
    donor_layer: str | None = None
    cka: float
    similarity: float
    factor: float
    drift: float | None = None
    loss: float | None = None
    accepted: bool
    why: str = ""


class LossesRecord(_Record):
    """On the probe: of the base, of the control (the base with BatchNorm's statistics estimated anew), and of the merge."""

    base: float
    control: float
    merged: float


class ProbeRecord(CalibrationRecord):
    """Data with labels.  labels: their column; labels_sha256: over the numbers of the rows that were drawn."""

    labels: str
    labels_sha256: str


class CatalogRecord(_Record):
    """The query that found some of the donors.  taken: these; passed: how many models it found that do not fit."""

    text: str = ""
    licence: str | None = None
    limit: int
    taken: tuple[str, ...]
    passed: int


class LayersRecord(_Record):
    """A merge of single layers, as it was carried out.

    order: the base, then the donors.  layers: how many the base has.  tau ... without: as in the recipe, what it leaves out by default.
    statistics: whether BatchNorm's statistics were estimated anew on the calibration data.  noise: how many samples of it there were
    instead of data.  losses: None without a probe.
    """

    family: str
    order: tuple[str, ...]
    layers: int
    tau: float
    eps: float
    rounds: int
    choose: Literal["largest", "best"]
    factors: tuple[float, ...]
    min_cka: float
    min_similarity: float
    without: tuple[str, ...] = ()
    statistics: bool
    decisions: tuple[DecisionRecord, ...]
    losses: LossesRecord | None = None
    calibration: CalibrationRecord | None = None
    noise: int | None = None
    probe: ProbeRecord | None = None
    catalog: CatalogRecord | None = None

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the merge itself found, beside what its plan said."""
        if any(each.accepted for each in self.decisions):
            return ()
        return ("no layer of any donor was accepted: this is the base model as it was",)
