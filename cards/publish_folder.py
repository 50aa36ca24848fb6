"""Publishing into a folder: what is there already, room on the disk, and the plan."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from cards.content import Content
from cards.folder import place_folder
from cards.publish_checks import content_checks, refuse_failed
from cards.publish_plan import Check, PublishFile, PublishPlan, State
from hubmerge.manifest import Manifest, read_manifest
from zoo_index.errors import HubmergeError

__all__ = ["plan_folder", "publish_folder"]


def publish_folder(content: Content, folder: Path, *, overwrite: bool, dry_run: bool) -> PublishPlan:
    """Make `folder` hold exactly `content`, in one rename; see `cards.publish`."""
    plan = plan_folder(content, folder, overwrite=overwrite)
    if dry_run:
        return plan
    refuse_failed(plan)
    if plan.state != "already published":
        place_folder(content.source.folder, folder, [file.name for file in plan.files], content.texts)
    return plan


def plan_folder(content: Content, folder: Path, *, overwrite: bool) -> PublishPlan:
    """What `publish_folder` would do, and every check with its outcome."""
    checks = content_checks(content, name=folder.resolve().name, target=str(folder), place="./{name}")
    state, occupied = _existing_state(folder, content.manifest, content.files, overwrite=overwrite)
    return PublishPlan(
        name=folder.resolve().name,
        target=str(folder),
        kind=content.kind,
        state=state,
        files=content.files,
        card=dict(content.card),
        licence=content.verdict.licence,
        checks=(*checks, *_place_checks(content.source.folder, folder, content.files), *occupied),
    )


def _place_checks(out: Path, folder: Path, files: Sequence[PublishFile]) -> Iterator[Check]:
    own, place = out.resolve(), folder.resolve()
    if own == place or own in place.parents or place in own.parents:
        yield Check(
            name="target",
            status="fail",
            message="the target and the merge lie in one another",
            where=str(folder),
            hint="publish beside the merge",
        )
    above = next(parent for parent in place.parents if parent.exists())
    if not above.is_dir():
        what = f"{above} is a file"
        yield Check(name="target", status="fail", message=what, where=str(folder), hint="name another folder")
        return
    needed, free = sum(file.size for file in files), shutil.disk_usage(above).free
    if needed > free:
        what = f"{needed:,} bytes are needed and {free:,} are free"
        yield Check(name="disk", status="fail", message=what, where=str(above), hint="make room")


def _existing_state(
    folder: Path, manifest: Manifest, files: Sequence[PublishFile], *, overwrite: bool
) -> tuple[State, tuple[Check, ...]]:
    """What is at the target, and the check that fails when it has to stay.

    Only a folder that holds a hubmerge.json is ever replaced: it can be made again from its recipe.
    """
    if not folder.exists() and not folder.is_symlink():
        return "new", ()
    there: Manifest | None = None
    if folder.is_dir() and not folder.is_symlink():
        try:
            there = read_manifest(folder)
        except HubmergeError:
            there = None
    if there is None:
        hint = "name a folder that does not exist yet"
        return "refused", (_refusal(f"something else is at {folder}", folder, hint),)
    if there.plan_hash == manifest.plan_hash and _same_files(folder, files):
        return "already published", ()
    if overwrite:
        return "replaces", ()
    same = there.plan_hash == manifest.plan_hash
    what = "an earlier publish of this merge with other files" if same else "another merge"
    return "refused", (
        _refusal(f"{what} is at {folder}", folder, "replace it with --overwrite, or name another folder"),
    )


def _refusal(message: str, folder: Path, hint: str) -> Check:
    return Check(name="target", status="fail", message=message, where=str(folder), hint=hint)


def _same_files(folder: Path, files: Sequence[PublishFile]) -> bool:
    present = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    if present != sorted(file.name for file in files):
        return False
    for file in files:
        path = folder / file.name
        if path.stat().st_size != file.size:
            return False
        with path.open("rb") as stream:
            if hashlib.file_digest(stream, "sha256").hexdigest() != file.sha256:
                return False
    return True
