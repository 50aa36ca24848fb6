"""A folder that appears complete or not at all: files copied beside it, then one rename."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from cards.errors import PublishError

__all__ = ["place_folder"]


def place_folder(source: Path, target: Path, names: Sequence[str], texts: Mapping[str, str]) -> None:
    """Make `target` hold exactly the files `names`: those in `texts` with that text, the others copied from `source`.

    Works in ``target.partial``, which an earlier run that was killed may have left, and renames it; a folder that is
    at `target` is replaced by two renames, and put back when the second fails.  Missing folders above are made.
    Raises `PublishError` when the disk is full or a file cannot be written, and leaves nothing behind.
    """
    partial = target.with_name(f"{target.name}.partial")
    _clear_leftover(partial, names)
    made = [folder for folder in target.parents if not folder.exists()]
    try:
        partial.mkdir(parents=True)
        for name in names:
            place = partial / name
            place.parent.mkdir(parents=True, exist_ok=True)
            if name in texts:
                place.write_bytes(texts[name].encode())
            else:
                shutil.copyfile(source / name, place)
        _swap(partial, target)
    except BaseException as error:
        shutil.rmtree(partial, ignore_errors=True)
        for folder in made:
            with suppress(OSError):
                folder.rmdir()
        if isinstance(error, OSError):
            raise PublishError(
                f"the folder cannot be written ({error.strerror or error})",
                where=str(target),
                hint="nothing was published; make room or choose another place",
            ) from error
        raise


def _clear_leftover(partial: Path, names: Sequence[str]) -> None:
    if not partial.exists():
        return
    there = {path.relative_to(partial).as_posix() for path in partial.rglob("*") if path.is_file()}
    if partial.is_symlink() or not partial.is_dir() or not there <= set(names):
        raise PublishError("something else is in the way", where=str(partial), hint="move it away")
    shutil.rmtree(partial)


def _swap(partial: Path, target: Path) -> None:
    if not target.exists():
        partial.rename(target)
        return
    old = target.with_name(f"{target.name}.old")
    target.rename(old)
    try:
        partial.rename(target)
    except OSError:
        old.rename(target)
        raise
    shutil.rmtree(old)
