"""The prepare step of a merge on disk: its coefficients are kept in OUT.partial, so that a merge that goes on does not find them again."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hubmerge.errors import VerifyError
from hubmerge.io.finished import finish, finished_before
from hubmerge.io.input_files import InputFiles
from hubmerge.manifest import Manifest
from hubmerge.parent_models import recipe_models
from hubmerge.plan_types import Plan
from hubmerge.prepare import prepare, with_coefficients
from hubmerge.prepared_record import PreparedRecord, prepared_record
from hubmerge.wrapper import Prepared

__all__ = [
    "PREPARED_FOLDER",
    "check_found_again",
    "coefficients_digest",
    "kept_or_found",
    "prepared_again",
    "prepared_identity",
    "prepared_plan",
    "same_task_data",
]

PREPARED_FOLDER = "prepared"
"""In OUT.partial, until the merge is complete."""
_FOUND = "found.json"
_TOLERANCE = 1e-3
"""By how much a coefficient found again may differ: data is run through models, whose last digits are the machine's."""


def prepared_plan(
    plan: Plan, folder: Path, identity: Mapping[str, Any], *, note: Callable[[str], None] = lambda _: None
) -> tuple[Plan, PreparedRecord]:
    """`plan` with the coefficients that its wrapper finds, or that are in `folder` from before, when nothing has changed they depend on.

    identity: what the parents' weights and the versions are known by, as JSON.  Raises as `hubmerge.prepare.prepare` does.
    """
    models = recipe_models(plan)
    known = {**identity, "data": models.digests if models is not None else None}

    def find() -> Prepared:
        with InputFiles(plan.parents) as files:
            return prepare(plan, files, jobs=plan.jobs, models=models, note=note, scratch=folder)

    found = kept_or_found(folder, known, find, note)
    return with_coefficients(plan, found), prepared_record(plan, found, models.records if models is not None else ())


def kept_or_found(
    folder: Path, known: Mapping[str, Any], find: Callable[[], Prepared], note: Callable[[str], None]
) -> Prepared:
    """What is in `folder` from before by the same identity `known`, else what `find` finds, which is then kept there."""
    found = finished_before(folder / _FOUND, known, _prepared)
    if found is not None:
        note("the coefficients were found before, and are used again")
        return found
    folder.mkdir(parents=True, exist_ok=True)
    found = find()
    finish(folder / _FOUND, known, _facts(found))
    return found


def same_task_data(plan: Plan, manifest: Manifest) -> bool:
    """Whether the rows and labels that the parents are run on are those of the merge."""
    models, record = recipe_models(plan), manifest.prepared
    recorded = [[own.sha256, own.labels_sha256] for own in record.calibration] if record is not None else []
    return (models.digests if models is not None else []) == recorded


def prepared_identity(plan: Plan, identity: Mapping[str, Any]) -> dict[str, Any]:
    """`identity` with the coefficients of `plan`: what the bytes of its pieces depend on."""
    assert plan.prepared is not None
    return {**identity, "prepared": coefficients_digest(plan.prepared)}


def coefficients_digest(found: Prepared) -> str:
    """sha256 of the coefficients, as hex."""
    text = json.dumps({name: list(row) for name, row in found.layers.items()})
    return hashlib.sha256(text.encode()).hexdigest()


def prepared_again(plan: Plan, record: PreparedRecord | None, where: str) -> tuple[Plan, float]:
    """`plan` with the coefficients that its manifest records, and by how much they differ from those that are found now.

    `VerifyError` for a manifest without them, and for coefficients that differ by more than the tolerance.
    """

    def find() -> Prepared:
        with InputFiles(plan.parents) as files:
            return prepare(plan, files, jobs=plan.jobs, models=recipe_models(plan))

    recorded, worst = check_found_again(find, record, where)
    return with_coefficients(plan, recorded), worst


def check_found_again(
    find: Callable[[], Prepared], record: PreparedRecord | None, where: str
) -> tuple[Prepared, float]:
    """The coefficients that a manifest records, and by how much they differ from those that `find` finds; raises as `prepared_again`."""
    if record is None:
        raise VerifyError("the manifest records no coefficients", where=where, hint="merge again")
    found = find()
    worst = _worst(found.layers, record.layers)
    if not worst <= _TOLERANCE:
        raise VerifyError(
            f"coefficients differ by {worst:.1e} from those that are found again",
            where=where,
            hint="merge again; on another machine or with another torch they can differ in their last digits, not more",
        )
    return Prepared(record.layers, found.layer_of, record.state), worst


def _worst(ours: Mapping[str, tuple[float, ...]], theirs: Mapping[str, tuple[float, ...]]) -> float:
    if ours.keys() != theirs.keys() or any(len(ours[name]) != len(theirs[name]) for name in ours):
        return math.inf
    return max((abs(a - b) for name in ours for a, b in zip(ours[name], theirs[name], strict=True)), default=0.0)


def _prepared(found: Mapping[str, Any]) -> Prepared:
    layers = {name: tuple(row) for name, row in found["layers"].items()}
    return Prepared(layers, dict(found["layer_of"]), dict(found["state"]))


def _facts(found: Prepared) -> dict[str, Any]:
    layers = {name: list(row) for name, row in found.layers.items()}
    return {"layers": layers, "layer_of": dict(found.layer_of), "state": dict(found.state)}
