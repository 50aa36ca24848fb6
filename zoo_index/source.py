"""`ModelSource`: the files of one model at one state, and the plainest of them, a folder on disk."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Protocol, runtime_checkable

from zoo_index.errors import CheckpointError, ModelNotFoundError
from zoo_index.reference import PinnedRef

__all__ = ["LocalFolder", "ModelSource", "checked_name"]

_LONGEST = 80


@runtime_checkable
class ModelSource(Protocol):
    """The files of one model at one state."""

    @property
    def pinned(self) -> PinnedRef:
        """What the files belong to."""

    def files(self) -> Mapping[str, int]:
        """Relative POSIX name -> size in bytes, of every file, sorted by name."""

    def read(self, name: str, start: int = 0, end: int | None = None) -> bytes:
        """Bytes `start` to `end` of a file; `CheckpointError` when it cannot be read."""

    def path(self, name: str) -> Path:
        """A local path that holds the file's bytes, fetched if need be."""

    def missing(self, names: Iterable[str]) -> Mapping[str, int]:
        """Those of `names` that are not on this disk yet, with their sizes."""


class LocalFolder:
    """A model in a folder on disk, or one snapshot in the Hub cache; its files are listed once, when they are first asked for."""

    def __init__(self, folder: Path, pinned: PinnedRef) -> None:
        if not _is_folder(folder, pinned):
            what = "is a file, not a model folder" if folder.exists() else "does not exist"
            raise ModelNotFoundError(f"{folder} {what}", where=str(pinned.reference), hint=_nearby(folder))
        self.folder = folder
        self._pinned = pinned
        self._files: Mapping[str, int] | None = None

    @property
    def pinned(self) -> PinnedRef:
        return self._pinned

    def files(self) -> Mapping[str, int]:
        if self._files is None:  # a plan asks for them dozens of times
            self._files = self._listed()
        return self._files

    def _listed(self) -> dict[str, int]:
        try:
            found = [*_sizes([*os.scandir(self.folder)], "")]
        except OSError as error:
            raise CheckpointError(
                f"the folder cannot be listed ({error.strerror})", where=str(self.folder), hint="check its permissions"
            ) from error
        return dict(sorted(found, key=lambda row: row[0].split("/")))

    def read(self, name: str, start: int = 0, end: int | None = None) -> bytes:
        try:
            with self.path(name).open("rb") as file:
                file.seek(start)
                return file.read() if end is None else file.read(max(0, end - start))
        except OSError as error:
            raise CheckpointError(
                f"{name} cannot be read ({error.strerror})",
                where=str(self.folder),
                hint="check the file and its permissions",
            ) from error

    def path(self, name: str) -> Path:
        return self.folder / checked_name(name, str(self.folder))

    def missing(self, names: Iterable[str]) -> Mapping[str, int]:  # noqa: ARG002 - all of a folder is here
        return {}

    def __repr__(self) -> str:
        return f"LocalFolder({str(self.folder)!r})"


def _sizes(entries: Iterable[os.DirEntry[str]], before: str) -> Iterator[tuple[str, int]]:
    """Names and sizes of the files among `entries` and below; not of hidden folders, of links to folders, of what is closed.

    `Path.rglob` and a `Path.stat` for each take several times as long.
    """
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            if not entry.name.startswith("."):
                yield from _sizes(_inside(entry.path), f"{before}{entry.name}/")
        elif _is_file(entry):
            yield before + entry.name, entry.stat().st_size


def _inside(folder: str) -> list[os.DirEntry[str]]:
    try:
        return [*os.scandir(folder)]
    except PermissionError:
        return []


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError as error:
        if error.errno != errno.ELOOP:  # a link to itself is none
            raise
        return False


def _is_folder(folder: Path, pinned: PinnedRef) -> bool:
    try:
        return folder.is_dir()
    except OSError as error:  # a name that no disk can have
        name = repr(str(pinned.reference))
        where = name if len(name) <= _LONGEST else f"{name[: _LONGEST - 3]}..."
        hint = "check the path and its permissions"
        raise ModelNotFoundError(f"it cannot be opened ({error.strerror})", where=where, hint=hint) from None


def checked_name(name: str, where: str) -> str:
    """`name`, when it stays inside the model's folder; else `CheckpointError`.  Names come from strangers' files."""
    parts = PurePosixPath(name).parts
    if not parts or PurePosixPath(name).is_absolute() or ".." in parts or "\\" in name or "\0" in name:
        raise CheckpointError(
            f"{name!r} points outside the model's folder",
            where=where,
            hint="the model is damaged or hostile; fetch it again",
        )
    return name


def _nearby(folder: Path) -> str:
    from difflib import get_close_matches

    if folder.is_file():
        return "name the folder that holds config.json and the safetensors files"
    parent = folder.parent
    names = [entry.name for entry in parent.iterdir() if entry.is_dir()] if parent.is_dir() else []
    close = get_close_matches(folder.name, names, n=1)
    return f"did you mean {parent / close[0]}?" if close else f"looked from {Path.cwd()}"
