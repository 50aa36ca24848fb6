"""Where a model's files are: `ModelSource`, with a folder and the local Hub cache behind it.

This is the only module of the project that deals with the Hugging Face Hub; fetching from the Hub itself will be one
more `ModelSource`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Protocol, runtime_checkable

from zoo_index.errors import CheckpointError, ModelNotFoundError, ReferenceFormatError
from zoo_index.reference import ModelRef, PinnedRef

__all__ = ["LocalFolder", "ModelSource", "cached_models", "hub_cache_folder", "open_source"]


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
        """A local path that holds the file's bytes."""


class LocalFolder:
    """A model in a folder on disk, or one snapshot in the Hub cache."""

    def __init__(self, folder: Path, pinned: PinnedRef) -> None:
        if not folder.is_dir():
            what = "is a file, not a model folder" if folder.exists() else "does not exist"
            raise ModelNotFoundError(f"{folder} {what}", where=str(pinned.reference), hint=_nearby(folder))
        self.folder = folder
        self._pinned = pinned

    @property
    def pinned(self) -> PinnedRef:
        return self._pinned

    def files(self) -> Mapping[str, int]:
        found: dict[str, int] = {}
        try:
            for path in sorted(self.folder.rglob("*")):
                relative = path.relative_to(self.folder)
                if not any(part.startswith(".") for part in relative.parts[:-1]) and path.is_file():
                    found[relative.as_posix()] = path.stat().st_size
        except OSError as error:
            raise CheckpointError(
                f"the folder cannot be listed ({error.strerror})", where=str(self.folder), hint="check its permissions"
            ) from error
        return found

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
        parts = PurePosixPath(name).parts
        if not parts or PurePosixPath(name).is_absolute() or ".." in parts or "\\" in name or "\0" in name:
            raise CheckpointError(f"{name!r} points outside the model's folder", where=str(self.folder))
        return self.folder / name

    def __repr__(self) -> str:
        return f"LocalFolder({str(self.folder)!r})"


def _nearby(folder: Path) -> str:
    from difflib import get_close_matches

    if folder.is_file():
        return "name the folder that holds config.json and the safetensors files"
    parent = folder.parent
    names = [entry.name for entry in parent.iterdir() if entry.is_dir()] if parent.is_dir() else []
    close = get_close_matches(folder.name, names, n=1)
    return f"did you mean {parent / close[0]}?" if close else f"looked from {Path.cwd()}"


def hub_cache_folder() -> Path:
    """The Hub cache that huggingface_hub uses (``HF_HUB_CACHE``, else ``HF_HOME/hub``)."""
    user_cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    home = Path(os.environ.get("HF_HOME") or user_cache / "huggingface")
    return Path(os.environ.get("HF_HUB_CACHE") or home / "hub").expanduser()


def cached_models(cache: Path | None = None) -> Iterator[LocalFolder]:
    """Every model snapshot in the local Hub cache, by repository name.

    Named as one would ask for it: ``org/name`` for what ``main`` points to, ``org/name@revision`` for another branch
    or tag, ``org/name@commit`` for a snapshot that was fetched by its commit.  What is no snapshot is passed over.
    """
    cache = cache or hub_cache_folder()
    for repo in sorted(cache.glob("models--*")):
        name = repo.name.removeprefix("models--").replace("--", "/", 1)
        revisions = _revisions(repo)
        for snapshot in sorted((repo / "snapshots").glob("*")):
            if snapshot.is_dir():
                try:
                    reference = ModelRef.of(name, revisions.get(snapshot.name, snapshot.name))
                except ReferenceFormatError:
                    continue  # a folder that no client made
                yield LocalFolder(snapshot, PinnedRef(reference, snapshot.name))


def _revisions(repo: Path) -> dict[str, str | None]:
    """Commit -> the revision to ask for it by: None for main, else the first branch or tag in order of names."""
    refs = repo / "refs"
    found: dict[str, str | None] = {}
    for ref in sorted(refs.rglob("*")):
        if ref.is_file():
            revision, commit = ref.relative_to(refs).as_posix(), _commit(ref)
            if revision == "main":
                found[commit] = None
            else:
                found.setdefault(commit, revision)
    return found


def open_source(reference: ModelRef) -> ModelSource:
    """The files of `reference` (its adapter, if any, is opened by `reference.adapter`).

    A folder is itself.  A Hub name is looked up in the local Hub cache; when a folder of that name lies in the
    current folder too, a name without a revision is ambiguous and refused.

    Raises `ModelNotFoundError` when there is no such folder or the cache does not hold the model.
    """
    if reference.is_local:
        return LocalFolder(reference.path, PinnedRef(reference.model))
    cached = _cached_snapshot(reference)
    if reference.revision is None and Path(reference.name).is_dir():
        if cached is not None:
            raise ModelNotFoundError(
                f"{reference.name} is both a folder here and a model in the Hub cache",
                where=str(reference),
                hint=f"write ./{reference.name} for the folder, or {reference.name}@main for the Hub's",
            )
        return LocalFolder(Path(reference.name), PinnedRef(ModelRef.of(f"./{reference.name}")))
    if cached is None:
        raise ModelNotFoundError(
            f"{reference.model} is not in the local Hub cache and no folder of that name is here",
            where=str(hub_cache_folder()),
            hint=f"`hf download {reference.name}` fetches it; write ./{reference.name.rpartition('/')[2]} for a folder",
        )
    return cached


def _cached_snapshot(reference: ModelRef) -> LocalFolder | None:
    repo = hub_cache_folder() / f"models--{reference.name.replace('/', '--')}"
    revision = reference.revision or "main"
    if ".." in PurePosixPath(revision).parts:
        return None  # a revision is a name, and never leads out of the cache
    ref = repo / "refs" / revision
    commit = _commit(ref) if ref.is_file() else revision
    snapshot = repo / "snapshots" / commit
    return LocalFolder(snapshot, PinnedRef(reference.model, commit)) if commit and snapshot.is_dir() else None


def _commit(ref: Path) -> str:
    return ref.read_text(encoding="utf-8", errors="replace").strip()
