"""Whether the parents' weights are those that were planned with, and stay so until they are merged."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from hubmerge.errors import MergeError
from hubmerge.io.input_files import InputFiles
from hubmerge.planned import Planned

__all__ = ["FileState", "check_planned", "check_unchanged", "file_states", "written_since"]


class FileState(NamedTuple):
    """A file as the system describes it: bytes, and nanoseconds of its last change."""

    path: str
    size: int
    changed: int


def file_states(plan: Planned, files: InputFiles) -> tuple[FileState, ...]:
    """The states of all weight files that `plan` reads, in its order; of what is pinned to a commit of the Hub there are none.

    What was done of a merge is not gone on with when they differ: samples of a file's numbers do not show every change.
    Raises `MergeError` for a file that is not there any more.
    """
    return tuple(_state(path) for path, _, _ in _local(plan, files))


def check_planned(plan: Planned, files: InputFiles) -> None:
    """`MergeError` for a weight file whose header is another one than when `plan` was made."""
    for path, planned, where in _local(plan, files):
        try:
            with path.open("rb") as file:
                size = path.stat().st_size
                header = file.read(min(int.from_bytes(file.read(8), "little"), size))
        except OSError as error:
            raise _unreadable(path, error) from error
        if hashlib.sha256(header).hexdigest() != planned:
            raise MergeError(f"{path.name} is not the file that was planned with", where=where, hint="merge again")


def check_unchanged(before: tuple[FileState, ...], plan: Planned, files: InputFiles) -> None:
    """`MergeError` for the first weight file that is in another state than `before`."""
    for old, new in zip(before, file_states(plan, files), strict=True):
        if old != new:
            raise MergeError(
                f"{Path(old.path).name} changed while it was merged",
                where=old.path,
                hint="merge again when nothing writes to it any more",
            )


def written_since(moment: int, plan: Planned, files: InputFiles) -> bool:
    """Whether a weight file was written, or put where it is, at `moment` (nanoseconds) or later."""
    return any(max(path.stat().st_mtime_ns, path.stat().st_ctime_ns) >= moment for path, _, _ in _local(plan, files))


def _local(plan: Planned, files: InputFiles) -> Iterator[tuple[Path, str, str]]:
    """Every weight file of a folder that is read: its path, the digest of its header, the name of its model."""
    read = dict.fromkeys((parent, meta.file, inside) for parent, meta, inside in plan.stored)
    for parent, name, in_adapter in read:
        planned = plan.parents[parent]
        if (planned.adapter_commit if in_adapter else planned.commit) is None:
            header = planned.headers[f"adapter/{name}" if in_adapter else name]
            yield files.path(parent, name, in_adapter), header, str(planned.reference)


def _state(path: Path) -> FileState:
    try:
        state = path.stat()
    except OSError as error:
        raise _unreadable(path, error) from error
    return FileState(str(path), state.st_size, state.st_mtime_ns)


def _unreadable(path: Path, error: OSError) -> MergeError:
    return MergeError(f"{path.name} cannot be read ({error.strerror})", where=str(path), hint="put it back")
