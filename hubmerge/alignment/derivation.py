"""What `verify` asks of a merge after an alignment: the same data, the same orders, the same statistics."""

from __future__ import annotations

from pathlib import Path

from hubmerge.alignment.plan_types import PlannedAlignment
from hubmerge.alignment.stage import Aligned, calibration_of
from hubmerge.alignment.statistics import estimated_statistics
from hubmerge.errors import VerifyError
from hubmerge.heterogeneous.derivation import TOLERANCE
from hubmerge.manifest import Manifest
from hubmerge.plan_types import Plan

__all__ = ["check_orders", "check_statistics", "same_rows"]


def same_rows(plan: Plan, alignment: PlannedAlignment, manifest: Manifest) -> bool:
    """Whether the rows of the calibration data, where any are used, are those of the merge."""
    batches = calibration_of(plan, alignment)
    record = manifest.alignment.calibration if manifest.alignment is not None else None
    return (batches.digest if batches is not None else None) == (record.sha256 if record is not None else None)


def check_orders(aligned: Aligned, manifest: Manifest, folder: Path) -> None:
    """`VerifyError` for a parent whose units are brought into another order than `manifest` records."""
    recorded = [parent.order_sha256 for parent in manifest.alignment.parents] if manifest.alignment is not None else []
    found = [parent.order_sha256 for parent in aligned.record.parents]
    for parent, was, now in zip(aligned.record.parents, recorded, found, strict=False):
        if was != now:
            raise VerifyError(
                f"the units of {parent.reference} come into another order than they were merged in",
                where=str(folder),
                hint="merge again; on another machine or with another torch, units can be matched otherwise",
            )
    if len(recorded) != len(found):
        raise VerifyError(
            "the manifest records another number of aligned models", where=str(folder), hint="merge again"
        )


def check_statistics(plan: Plan, aligned: Aligned, folder: Path) -> float:
    """The worst relative difference of BatchNorm's statistics in `folder` from what the data gives; `VerifyError` beyond the tolerance."""
    from safetensors import safe_open

    assert aligned.batches is not None
    found = estimated_statistics(plan, folder, aligned.batches)
    worst = 0.0
    for output in (step.output for step in plan.steps if step.output.name in found):
        with safe_open(folder / output.file, "pt") as file:
            stored = file.get_tensor(output.name)
        again = found[output.name].to(stored.dtype).double()
        difference = float((stored.double() - again).abs().max() / again.abs().max().clamp_min(1e-30))
        if not difference <= TOLERANCE[output.dtype.torch_name]:
            raise VerifyError(
                f"tensor {output.name!r} differs by {difference:.1e} from what its data gives",
                where=output.file,
                hint="merge again",
            )
        worst = max(worst, difference)
    return worst
