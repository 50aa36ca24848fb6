"""An assembly made once more and compared with what is on disk: the same bytes, or how far off the worst tensor is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from hubmerge.errors import VerifyError
from hubmerge.heterogeneous.execute import calibration_of, write_assembly
from hubmerge.heterogeneous.mal_data import data_of
from hubmerge.heterogeneous.mal_execute import write_mal
from hubmerge.heterogeneous.mal_plan_types import MalPlan
from hubmerge.heterogeneous.plan_types import AssemblyPlan
from hubmerge.io.digests import file_sha256
from hubmerge.manifest import Manifest

__all__ = ["TOLERANCE", "Derived", "derive_again", "same_data"]

TOLERANCE = {"float64": 1e-3, "float32": 1e-3, "float16": 2**-8, "bfloat16": 2**-5}
"""Relative to the largest magnitude of a tensor: sums in another order change the last digits of correlations, and every layer is fitted
on what those before it give.
"""


@dataclass(frozen=True)
class Derived:
    """What came of it.  tensors: how many were compared; worst: the largest difference of a tensor's largest entry, 0 for the same bytes."""

    tensors: int
    worst: float
    same_bytes: bool


def same_data(plan: AssemblyPlan | MalPlan, manifest: Manifest) -> bool:
    """Whether the rows of the calibration data, where there are any, are those of the merge."""
    if isinstance(plan, MalPlan):
        record = manifest.layers
        found = data_of(plan)
        return record is not None and (found.calibration, found.probe) == (record.calibration, record.probe)
    batches = calibration_of(plan)
    own = manifest.assembly.calibration if manifest.assembly is not None else None
    return (batches.digest if batches is not None else None) == (own.sha256 if own is not None else None)


def derive_again(plan: AssemblyPlan | MalPlan, folder: Path) -> Derived:
    """Put the models of `plan` together once more, beside nothing of `folder`, and compare all weights and the config.

    Raises `VerifyError` at the first file that differs, or the first tensor that differs by more than another machine's arithmetic does.
    """
    with TemporaryDirectory(prefix="hubmerge-verify-") as name:
        again = Path(name)
        made = write_mal(plan, again) if isinstance(plan, MalPlan) else write_assembly(plan, again)
        written = sorted(path.relative_to(again).as_posix() for path in again.rglob("*") if path.is_file())
        carried = {file.name for file in plan.carried}
        missing = next((file for file in written if not (folder / file).is_file()), None)
        if missing is not None:
            raise VerifyError(f"{missing}, which its models give, is missing", where=str(folder), hint="merge again")
        other = [file for file in written if file_sha256(folder / file) != file_sha256(again / file)]
        other = [file for file in other if file not in carried]
        if not other:
            return Derived(made.tensors, 0.0, same_bytes=True)
        text = next((file for file in other if not file.endswith(".safetensors")), None)
        if text is not None:
            raise VerifyError(f"{text} differs from what its models give", where=str(folder), hint="merge again")
        worst = max(_difference(folder / file, again / file, plan.dtype) for file in other)
        return Derived(made.tensors, worst, same_bytes=False)


def _difference(stored: Path, again: Path, dtype: str) -> float:
    """The worst relative difference of two weight files; raises `VerifyError` for one that is beyond the tolerance."""
    from safetensors import safe_open

    worst = 0.0
    with safe_open(stored, "pt") as left, safe_open(again, "pt") as right:
        if sorted(left.keys()) != sorted(right.keys()):
            raise VerifyError(
                f"{stored.name} holds other tensors than its models give", where=str(stored), hint="merge again"
            )
        for name in left.keys():  # noqa: SIM118 - an open file is no mapping
            a, b = left.get_tensor(name), right.get_tensor(name)
            if a.shape != b.shape:
                raise VerifyError(f"tensor {name!r} has another shape", where=str(stored), hint="merge again")
            difference = float((a.double() - b.double()).abs().max() / b.double().abs().max().clamp_min(1e-30))
            if not difference <= TOLERANCE[dtype]:
                raise VerifyError(
                    f"tensor {name!r} differs by {difference:.1e} from what its models give",
                    where=str(stored),
                    hint="merge again; on another machine or with another torch, units can be matched otherwise",
                )
            worst = max(worst, difference)
    return worst
