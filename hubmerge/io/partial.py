"""What stands beside OUT while a merge is written, and how it is recognised and removed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from hubmerge.errors import MergeError
from hubmerge.io.journal import JOURNAL_NAME
from hubmerge.io.lock import lock_folder

__all__ = [
    "MAX_NAME_BYTES",
    "PARTIAL_MARK",
    "aside_of",
    "discard",
    "empty",
    "is_empty",
    "partial_of",
    "percent",
    "put_back",
    "remove_aside",
    "sweep",
]

PARTIAL_MARK = ".hubmerge-plan"
"""File in OUT.partial that holds the hash of the plan it belongs to."""
MAX_NAME_BYTES = 230
"""Longest name of an OUT: the names made from it stay below the 255 bytes that a folder's name may have."""


def partial_of(out: Path) -> Path:
    """Where work on `out` happens: beside it, on the same disk."""
    return out.with_name(out.name + ".partial")


def percent(done: int, total: int) -> int:
    """A share of some work of which something is done: never 0, and 100 only for all of it."""
    return max(1, 100 * done // total)


def sweep(out: Path) -> None:
    """Remove what publishing leaves beside and in `out`; a merge that was killed there leaves it to the next."""
    for name in (PARTIAL_MARK, JOURNAL_NAME):
        (out / name).unlink(missing_ok=True)
    remove_aside(out)


def remove_aside(out: Path) -> None:
    """Delete an older OUT that was put aside, if there is one; `MergeError` when the system does not let it be deleted."""
    aside = aside_of(out)
    try:
        if aside.exists():
            shutil.rmtree(aside)
    except OSError as error:
        raise MergeError(
            f"what {out.name} was before cannot be deleted ({error.strerror})",
            where=str(aside),
            hint="delete it yourself",
        ) from error


def aside_of(out: Path) -> Path:
    """Where an older OUT waits to be deleted: a name that nobody else gives to anything."""
    return out.with_name(f".{out.name}.hubmerge-replaced")


def put_back(out: Path) -> None:
    """Make an older OUT, which a merge that was killed while it published left aside, OUT again; else do nothing."""
    aside, partial = aside_of(out), partial_of(out)
    if not aside.exists() or os.path.lexists(out):
        return
    with suppress(OSError):  # locked: a merge is publishing at this moment
        held = lock_folder(partial) if partial.is_dir() else None
        try:
            if not os.path.lexists(out):
                aside.rename(out)
        finally:
            if held is not None:
                os.close(held)


def discard(partial: Path) -> None:
    """Remove an OUT.partial, its mark last: a kill in the middle leaves what the next merge knows for its own."""
    if partial.is_dir():
        empty(partial)
        shutil.rmtree(partial)


def empty(partial: Path, kept: Collection[str] = (PARTIAL_MARK,)) -> None:
    """Remove what is in an OUT.partial, but for its mark, or the files that are to be kept."""
    for path in partial.iterdir():
        if path.name not in kept:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def is_empty(folder: Path) -> bool:
    """Whether this is a folder with nothing in it."""
    return folder.is_dir() and not any(folder.iterdir())
