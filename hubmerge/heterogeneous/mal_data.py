"""What a merge of single layers is measured on: calibration data or none, and batches with labels, drawn and recorded."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hubmerge.assembly_record import CalibrationRecord
from hubmerge.calibration import Batches
from hubmerge.calibration.check import CalibrationFacts
from hubmerge.fetching import open_planned
from hubmerge.heterogeneous.execute import calibration_of
from hubmerge.heterogeneous.mal_models import labelled
from hubmerge.heterogeneous.mal_plan_types import MalPlan
from hubmerge.heterogeneous.record import calibration_record
from hubmerge.layers_record import ProbeRecord
from hubmerge.parents import parent_of

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["MalData", "data_of"]


@dataclass(frozen=True)
class MalData:
    """batches: None for noise.  labelled: the probe's, None without one.  calibration, probe: their records."""

    batches: Batches | None
    labelled: list[dict[str, Tensor]] | None
    calibration: CalibrationRecord | None
    probe: ProbeRecord | None

    @property
    def digests(self) -> list[str | None]:
        """What tells these rows from others."""
        own = [None if self.calibration is None else self.calibration.sha256]
        return own + ([None, None] if self.probe is None else [self.probe.sha256, self.probe.labels_sha256])


def data_of(plan: MalPlan) -> MalData:
    """The data of a plan, drawn; raises as `open_calibration` and `labelled` do."""
    batches = calibration_of(plan)
    found = calibration_record(plan.stages.calibration, plan.calibration, batches)
    asked, facts = plan.stages.probe, plan.probe
    if asked is None or facts is None:
        return MalData(batches, None, found, None)
    base = plan.parents[plan.base]
    rows, probe = labelled(asked, parent_of(base.reference, open_planned(base)), asked.labels, "probe.labels")
    assert probe is not None
    return MalData(batches, probe, found, _probe_record(asked.data, asked.labels, facts, rows, probe))


def _probe_record(
    data: str, labels: str, facts: CalibrationFacts, rows: Batches, probe: list[dict[str, Any]]
) -> ProbeRecord:
    numbers = [number for batch in probe for number in batch["labels"].tolist()]
    return ProbeRecord(
        data=data,
        commit=facts.commit,
        kind=rows.kind,
        column=facts.column,
        samples=len(rows),
        sha256=rows.digest,
        labels=labels,
        labels_sha256=hashlib.sha256(" ".join(map(str, numbers)).encode()).hexdigest(),
    )
