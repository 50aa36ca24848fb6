"""`PublishPlan`: what would be published, as data that prints; and how it stands to a folder that is already there."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from hubmerge.manifest import Manifest, read_manifest
from zoo_index.errors import HubmergeError
from zoo_index.hub import ModelSource

__all__ = ["Check", "PublishFile", "PublishPlan", "State", "as_file", "existing_state"]

State = Literal["new", "already published", "replaces", "refused"]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Check(_Record):
    """One thing that was looked at.  fail: nothing is published; warn: a person should know."""

    name: str
    status: Literal["ok", "warn", "fail"]
    message: str
    where: str = ""
    hint: str = ""


class PublishFile(_Record):
    """One file of the published folder: size in bytes, sha256 as hex."""

    name: str
    size: int
    sha256: str


class PublishPlan(_Record):
    """Everything that publishing would do, and every check with its outcome.

    state: what is at the target now: nothing (``new``), the same files (``already published``), an earlier publish
    that will be replaced (``replaces``), or something that stays (``refused``).  card: the card's metadata.
    """

    name: str
    target: str
    state: State
    files: tuple[PublishFile, ...]
    card: dict[str, Any]
    licence: str | None
    checks: tuple[Check, ...]

    @property
    def failed(self) -> tuple[Check, ...]:
        """The checks for which nothing is published."""
        return tuple(check for check in self.checks if check.status == "fail")

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)

    def to_json(self) -> dict[str, Any]:
        """The plan as plain JSON values."""
        return self.model_dump(mode="json")

    def __str__(self) -> str:
        width = max((len(file.name) for file in self.files), default=0)
        lines = [f"{self.name} -> {self.target} ({self.state}), {len(self.files)} files, {self.size:,} bytes"]
        lines += [f"  {file.name.ljust(width)}  {file.size:>15,}  {file.sha256[:12]}" for file in self.files]
        lines += [f"  {check.status:<4}  {check.name}: {check.message}" for check in self.checks]
        return "\n".join(lines)


def as_file(source: ModelSource, name: str, text: str | None) -> PublishFile:
    """Size and digest of a file as it will be published: `text` when it is written anew, else the file's own bytes."""
    if text is not None:
        data = text.encode()
        return PublishFile(name=name, size=len(data), sha256=hashlib.sha256(data).hexdigest())
    path = source.path(name)
    with path.open("rb") as stream:
        return PublishFile(
            name=name, size=path.stat().st_size, sha256=hashlib.file_digest(stream, "sha256").hexdigest()
        )


def existing_state(
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
