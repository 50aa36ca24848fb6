"""`PublishPlan`: what would be published, as data that prints."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict

from zoo_index.hub import ModelSource

__all__ = ["Check", "PublishFile", "PublishPlan", "State", "as_file"]

State = Literal["new", "already published", "replaces", "updates", "proposes", "refused"]

_LFS_SUFFIXES = frozenset({
    ".7z", ".arrow", ".bin", ".bz2", ".ckpt", ".ftz", ".gz", ".h5", ".joblib", ".mlmodel", ".model", ".msgpack", ".npy", ".npz",
    ".onnx", ".ot", ".parquet", ".pb", ".pickle", ".pkl", ".pt", ".pth", ".rar", ".safetensors", ".tar", ".tflite", ".tgz",
    ".wasm", ".xz", ".zip", ".zst",
})  # fmt: skip
"""What the .gitattributes of a new repository name; it decides, and the Hub."""
_LFS_SIZE = 10_000_000
"""Bytes above which the Hub keeps no file in git itself."""


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
    """One file as it would be published: size in bytes, sha256 as hex.

    blob: the name git gives to its content (sha1 as hex), which the Hub tells of small files; empty for those that are too
    large for git.  lfs: whether the Hub is expected to keep it as an LFS file.  change: what it does to the Hub's repository.
    """

    name: str
    size: int
    sha256: str
    blob: str = ""
    lfs: bool = False
    change: Literal["added", "changed", "unchanged"] = "added"


class PublishPlan(_Record):
    """Everything that publishing would do, and every check with its outcome.

    kind: dense, adapter or recipe.  state: what is at the target now: nothing (``new``), the same files (``already
    published``), an earlier publish that gives way to this one (``replaces`` a folder, ``updates`` a repository by one more
    commit), a repository to which this is offered as a pull request (``proposes``), or something that stays (``refused``).
    deleted: files of the repository that this publish removes; kept: those it leaves as they are.  card: the card's metadata.
    visibility: who can see the repository, None for a folder.  commit, url: of what was published, once it is.
    """

    name: str
    target: str
    kind: Literal["dense", "adapter", "recipe"]
    state: State
    files: tuple[PublishFile, ...]
    deleted: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    card: dict[str, Any]
    licence: str | None
    visibility: Literal["private", "public"] | None = None
    message: str | None = None
    checks: tuple[Check, ...]
    commit: str | None = None
    url: str | None = None

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
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        of = f", {self.kind}" if self.kind != "dense" else ""
        seen = f", {self.visibility}" if self.visibility else ""
        yield f"{self.name} -> {self.target} ({self.state}{of}{seen}), {len(self.files)} files, {self.size:,} bytes"
        width = max((len(file.name) for file in self.files), default=0)
        for file in self.files:
            how = f"  {file.change:<9}  {'LFS' if file.lfs else 'git'}" if self.visibility else ""
            digest = file.sha256 if self.visibility else file.sha256[:12]
            yield f"  {file.name.ljust(width)}  {file.size:>15,}{how}  {digest}"
        yield from (f"  {name}: deleted, it would compete with these files" for name in self.deleted)
        if self.kept:
            yield f"  kept as they are: {', '.join(self.kept)}"
        if self.visibility:
            facts = {key: value for key, value in self.card.items() if key != "model-index"}
            words = yaml.safe_dump(facts, default_flow_style=True, width=10**6, sort_keys=False).strip()
            yield f"  metadata: {words}"
            yield f"  commit: {self.message}"
        yield from (f"  {check.status:<4}  {check.name}: {check.message}" for check in self.checks)


def as_file(source: ModelSource, name: str, text: str | None) -> PublishFile:
    """Size and digests of a file as it will be published: `text` when it is written anew, else the file's own bytes."""
    if text is not None:
        data = text.encode()
        return PublishFile(
            name=name,
            size=len(data),
            sha256=hashlib.sha256(data).hexdigest(),
            blob=_git_blob(data),
            lfs=_expects_lfs(name, len(data)),
        )
    path = source.path(name)
    size = path.stat().st_size
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    small = size <= _LFS_SIZE
    blob = _git_blob(path.read_bytes()) if small else ""
    return PublishFile(name=name, size=size, sha256=digest, blob=blob, lfs=_expects_lfs(name, size))


def _git_blob(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def _expects_lfs(name: str, size: int) -> bool:
    return size > _LFS_SIZE or (size > 0 and Path(name).suffix in _LFS_SUFFIXES)
