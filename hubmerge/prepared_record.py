"""`PreparedRecord`: what a manifest says of coefficients that were found before the merge, by layer and parent, and of the data for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from hubmerge.assembly_record import CalibrationRecord

if TYPE_CHECKING:
    from hubmerge.plan_types import Plan
    from hubmerge.wrapper import Prepared

__all__ = ["PreparedRecord", "TaskDataRecord", "prepared_record"]


class TaskDataRecord(CalibrationRecord):
    """One parent's own data.  labels: the column of them, None where there are none; labels_sha256: over the numbers, in order."""

    labels: str | None = None
    labels_sha256: str | None = None


class PreparedRecord(BaseModel):
    """What was found.

    inner: the method that merged.  parents: by name, in the order of the coefficients.  layers: by the name of a layer what the parents'
    weights were multiplied with.  state: what else the method tells, in its own words.  calibration: of each parent, empty without data.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    inner: str
    parents: tuple[str, ...]
    layers: dict[str, tuple[float, ...]]
    state: dict[str, Any] = {}
    calibration: tuple[TaskDataRecord, ...] = ()


def prepared_record(plan: Plan, found: Prepared, data: tuple[TaskDataRecord, ...]) -> PreparedRecord:
    """What the manifest keeps of what the wrapper of `plan` found on this data."""
    return PreparedRecord(
        inner=plan.method.inner,
        parents=tuple(map(str, plan.recipe.parents)),
        layers=dict(found.layers),
        state=dict(found.state),
        calibration=data,
    )
