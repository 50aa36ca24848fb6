"""The local Hub cache, as huggingface_hub lays it out: which snapshots of which models are on this disk."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from zoo_index.errors import ReferenceFormatError
from zoo_index.reference import ModelRef, PinnedRef
from zoo_index.source import LocalFolder

__all__ = ["cached_models", "cached_snapshot", "forget", "hub_cache_folder", "is_intact", "remember_revision"]

_SHA256_HEX, _SHA1_HEX = 64, 40


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


def cached_snapshot(reference: ModelRef) -> LocalFolder | None:
    """The snapshot that the cache holds for a Hub name and its revision (default main); it can be incomplete."""
    repo = hub_cache_folder() / f"models--{reference.name.replace('/', '--')}"
    revision = reference.revision or "main"
    if ".." in PurePosixPath(revision).parts:
        return None  # a revision is a name, and never leads out of the cache
    ref = repo / "refs" / revision
    commit = _commit(ref) if ref.is_file() else revision
    snapshot = repo / "snapshots" / commit
    return LocalFolder(snapshot, PinnedRef(reference.model, commit)) if commit and snapshot.is_dir() else None


def remember_revision(name: str, revision: str, commit: str) -> None:
    """Note in the cache that `revision` of a model means `commit`, as the client does when it fetches by revision.

    Files are fetched by commit here; without the note, offline, nobody would know which commit ``main`` was.  A cache that
    cannot be written is left as it is.
    """
    if revision == commit or ".." in PurePosixPath(revision).parts:
        return
    ref = hub_cache_folder() / f"models--{name.replace('/', '--')}" / "refs" / revision
    try:
        if not ref.is_file() or _commit(ref) != commit:
            ref.parent.mkdir(parents=True, exist_ok=True)
            fresh = ref.with_name(f"{ref.name}.{os.getpid()}.tmp")
            fresh.write_text(commit, encoding="utf-8")
            fresh.replace(ref)
    except OSError:
        return


def is_intact(path: Path) -> bool:
    """Whether a file of the cache has the digest it is kept under: sha256 for large files, git's for small ones.

    The client compares sizes only.  True where the name of what is kept is no such digest (files fetched by Xet, which
    checks its own, and systems without links).
    """
    blob = (
        Path(os.path.normpath(path.parent / path.readlink())) if path.is_symlink() else path
    )  # one step, not to the end
    if blob.parent.name != "blobs" or not blob.parent.parent.name.startswith("models--"):
        return True
    if len(blob.name) == _SHA256_HEX:
        with blob.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == blob.name
    if len(blob.name) == _SHA1_HEX:
        content = blob.read_bytes()
        git = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False)
        return git.hexdigest() == blob.name
    return True


def forget(path: Path) -> None:
    """Remove a file from the cache, so that it is fetched again."""
    blob = path.resolve()
    path.unlink(missing_ok=True)
    blob.unlink(missing_ok=True)


def _commit(ref: Path) -> str:
    return ref.read_text(encoding="utf-8", errors="replace").strip()
