"""`align_model`: a model with its units in the order of another model's: other numbers, the same function, a folder to merge."""

from __future__ import annotations

import errno
import json
import shutil
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from hubmerge.alignment.common import common_spec
from hubmerge.alignment.stored import StoredWeights, check_weights, write_copy
from hubmerge.carry import files_of_copy
from hubmerge.errors import MergeError, PlanError
from hubmerge.parents import ParentModel, open_parent, refuse_adapter
from hubmerge.symmetry import Matching, SymmetrySpec, match_weights, transform
from zoo_index.families import Family
from zoo_index.hub import fetch
from zoo_index.reference import ModelRef

__all__ = ["ALIGNMENT_NAME", "align_model"]

ALIGNMENT_NAME = "hubmerge_alignment.json"
"""What was aligned with what, and how near they came, beside the weights."""


def align_model(
    base: str,
    model: str,
    out: str | Path,
    *,
    seed: int = 0,
    restarts: int = 2,
    without: Collection[str] = (),
    family: Family | None = None,
) -> Matching:
    """Write `model` into the folder `out` with its units in the order in which they are most like those of `base`.

    base, model: folders or names on the Hub, of one architecture, with the same shapes and the same groups.
    family: their symmetry table, by default that of their architecture.  The rest as for `hubmerge.symmetry.match_weights`.  The
    new model computes what the old one does, up to the rounding of sums in another
    order: every weight is moved, and where a group allows it negated, and none is changed otherwise.  What goes along with
    the weights is what goes along with a merge's, and the model's card.

    Raises `SymmetryError` for an architecture without a table; `PlanError` for adapters, models whose shapes or groups differ,
    types that are not plain floating-point numbers, or an `out` that exists; `NumbersError` for numbers that are not finite;
    `MergeError` for what cannot be read or written.
    """
    target = Path(out)
    with _disk_faults(target):
        if target.exists():
            raise PlanError(f"{target} exists", where=str(target), hint="choose another OUT")
        ours, theirs = _opened(base), _opened(model)
        spec = common_spec(ours, theirs, base, model, family=family)
        _check_names(spec, without, model)
        files = files_of_copy(theirs)
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f"{target.name}.", suffix=".partial", dir=target.parent))
        try:
            fetch(
                [(parent.source, name) for parent, names in ((ours, ours.headers), (theirs, files)) for name in names]
            )
            sides = StoredWeights(ours, "align again"), StoredWeights(theirs, "align again")
            for weights, name in zip(sides, (base, model), strict=True):
                check_weights(weights, spec, name)
            matching = match_weights(spec, *sides, seed=seed, restarts=restarts, without=without)
            write_copy(
                partial,
                sides[1],
                files,
                lambda name, values: transform(spec, {name: values}, matching.element)[name],
            )
            record = _record(base, model, seed, restarts, matching)
            (partial / ALIGNMENT_NAME).write_text(json.dumps(record, indent=2) + "\n")
            partial.chmod(0o755)
            partial.rename(target)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
    return matching


@contextmanager
def _disk_faults(out: Path) -> Iterator[None]:
    """What the system refuses, as a `MergeError` that says where."""
    try:
        yield
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise MergeError("the disk is full", where=str(out), hint="free some space and align again") from error
        raise MergeError(
            f"the model cannot be aligned ({error.strerror or error})",
            where=str(error.filename or out),
            hint="check the file or folder and its permissions",
        ) from error


def _check_names(spec: SymmetrySpec, without: Collection[str], model: str) -> None:
    unknown = spec.unknown(without)
    if unknown:
        raise PlanError(
            f"{model} has no group {min(unknown)!r}",
            where="--without",
            hint=f"`hubmerge symmetry show {model}` lists them",
        )


def _opened(name: str) -> ParentModel:
    reference = ModelRef.parse(name)
    refuse_adapter(reference, "a model with an adapter is not aligned")
    return open_parent(reference)


def _record(base: str, model: str, seed: int, restarts: int, matching: Matching) -> dict[str, object]:
    groups = {name: vars(group) for name, group in matching.groups.items()}
    return {
        "model": model, "in_the_order_of": base, "method": "weights", "seed": seed, "restarts": restarts,
        "similarity": matching.similarity, "before": matching.before, "groups": groups,
    }  # fmt: skip
