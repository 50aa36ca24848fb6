"""Where a merge may be written: never onto a parent, into one, or around one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from hubmerge.errors import PlanError
from hubmerge.io.partial import aside_of, partial_of
from hubmerge.planned import Planned
from zoo_index.reference import ModelRef

__all__ = ["keep_parents_safe"]


def keep_parents_safe(plan: Planned, out: Path) -> None:
    """Refuse an `out` whose writing or replacing would touch a folder that the plan reads.

    Raises `PlanError` when OUT, OUT.partial or the place where an older OUT is put aside is a parent's folder, lies inside
    one or holds one; links are followed.
    """
    for target in (out, partial_of(out), aside_of(out)):
        place = target.resolve()
        for reference, folder in _folders(plan):
            if place == folder:
                what = "is the parent"
            elif folder in place.parents:
                what = "lies inside the parent"
            elif place in folder.parents:
                what = "holds the parent"
            else:
                continue
            raise PlanError(
                f"{target} {what} {reference}, which a merge must not touch", where=str(out), hint="choose another OUT"
            )


def _folders(plan: Planned) -> Iterator[tuple[ModelRef, Path]]:
    for parent in plan.parents:
        for reference in (parent.reference.model, parent.reference.adapter):
            if reference is not None and reference.is_local:
                yield reference, reference.path.resolve()
