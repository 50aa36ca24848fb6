"""The output folder: work happens in OUT.partial, and one rename makes it OUT.

An OUT that exists is replaced only when that was asked for, and only once the new one is complete.  OUT.partial belongs
to one merge at a time.
"""

from __future__ import annotations

import errno
import os
import shutil
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy.typing as npt

from hubmerge.errors import MergeError, PlanError
from hubmerge.io.lock import lock_folder

__all__ = ["MAX_NAME_BYTES", "PARTIAL_MARK", "OutputFolder", "partial_of", "sweep"]

PARTIAL_MARK = ".hubmerge-plan"
"""File in OUT.partial that holds the hash of the plan it belongs to."""
MAX_NAME_BYTES = 230
"""Longest name of an OUT: the names made from it stay below the 255 bytes that a folder's name may have."""


def partial_of(out: Path) -> Path:
    """Where work on `out` happens: beside it, on the same disk."""
    return out.with_name(out.name + ".partial")


class OutputFolder:
    """A context in which OUT.partial is filled; `publish` makes it OUT, leaving without it removes every trace.

    fresh: discard what another interrupted merge left in OUT.partial.  replace: an OUT that is there gives way.
    """

    def __init__(self, out: Path, plan_hash: str, *, fresh: bool = False, replace: bool = False) -> None:
        self.out = out
        self.partial = partial_of(out)
        self._plan_hash = plan_hash
        self._fresh = fresh
        self._replace = replace
        self._held: int | None = None
        self._published = False
        self._descriptors: dict[str, int] = {}
        self._lock = threading.Lock()
        self._made: list[Path] = []

    def __enter__(self) -> Self:
        try:
            if os.path.lexists(self.partial):
                self._take_over()
            parent = self.out.parent
            while not parent.exists():
                self._made.append(parent)
                parent = parent.parent
            self.partial.mkdir(parents=True)
            self._held = lock_folder(self.partial)
            (self.partial / PARTIAL_MARK).write_text(self._plan_hash + "\n")
        except (BlockingIOError, FileExistsError):
            raise PlanError(
                f"another merge is writing {self.partial} at this moment",
                where=str(self.out),
                hint="wait until it has ended, or choose another OUT",
            ) from None
        except OSError as error:
            self._remove()
            raise MergeError(
                f"{self.partial} cannot be created ({error.strerror})", where=str(self.out), hint="choose another OUT"
            ) from error
        return self

    def _take_over(self) -> None:
        """Discard what an interrupted merge left: the same plan's silently, another's only when asked.

        Raises `BlockingIOError` when it is not left but being written.
        """
        mark = self.partial / PARTIAL_MARK
        if self.partial.is_symlink() or not (mark.is_file() or _is_empty(self.partial)):
            raise PlanError(
                f"{self.partial} exists and is not what a merge leaves",
                where=str(self.out),
                hint="move it away, or choose another OUT",
            )
        held = lock_folder(self.partial)
        try:
            same = not mark.is_file() or mark.read_bytes().strip() == self._plan_hash.encode()
            if not same and not self._fresh:
                raise PlanError(
                    f"{self.partial} is left from another merge than this plan ({self._plan_hash[:12]})",
                    where=str(self.out),
                    hint="--fresh discards it; or choose another OUT",
                )
            shutil.rmtree(self.partial)
        finally:
            if held is not None:
                os.close(held)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()
        if not self._published:  # else an OUT.partial that is here now is another merge's
            self._remove()
        if self._held is not None:
            os.close(self._held)
            self._held = None
        if isinstance(error, OSError):
            raise _failed(error, self.out) from error

    def _remove(self) -> None:
        shutil.rmtree(self.partial, ignore_errors=True)
        for parent in self._made:
            if parent.is_dir() and not any(parent.iterdir()):
                parent.rmdir()

    def _close(self) -> None:
        for descriptor in self._descriptors.values():
            os.close(descriptor)
        self._descriptors.clear()

    def reserve(self, headers: Mapping[str, bytes], sizes: Mapping[str, int]) -> None:
        """Create the weight files with their headers and their full size, so that a full disk shows before any work."""
        for name, header in headers.items():
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
            descriptor = self._descriptors[name] = os.open(self.partial / name, flags, 0o644)
            _reserve(descriptor, sizes[name])
            self._write_at(descriptor, memoryview(header), 0)

    def write(self, name: str, offset: int, entries: npt.NDArray[Any]) -> None:
        """Put an array's bytes at `offset` of a reserved file; any thread, any order."""
        self._write_at(self._descriptors[name], entries.data.cast("B"), offset)

    def _write_at(self, descriptor: int, data: memoryview, offset: int) -> None:
        done = 0
        while done < len(data):
            if hasattr(os, "pwrite"):
                done += os.pwrite(descriptor, data[done:], offset + done)
            else:
                with self._lock:
                    os.lseek(descriptor, offset + done, os.SEEK_SET)
                    done += os.write(descriptor, data[done:])

    def write_file(self, name: str, content: bytes) -> None:
        """Write a small file; folders in its name are made."""
        path = self.partial / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    def copy_file(self, name: str, source: Path) -> None:
        """Copy a parent's file."""
        path = self.partial / name
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, path)

    def publish(self) -> None:
        """Make the folder OUT, in one rename; an older OUT is put aside first and deleted last, or put back on failure.

        Raises `MergeError` when there is an OUT by now and nobody asked to replace one.
        """
        self._close()
        aside = _aside(self.out)
        if self.out.exists():
            if not (self._replace or _is_empty(self.out)):
                raise MergeError(
                    f"{self.out} was made by something else while the merge ran",
                    where=str(self.out),
                    hint="choose another OUT; nothing was left behind",
                )
            if aside.exists():
                shutil.rmtree(aside)
            self.out.rename(aside)
        try:
            self.partial.rename(self.out)
        except OSError:
            if aside.exists():
                aside.rename(self.out)
            raise
        self._published = True
        sweep(self.out)


def _reserve(descriptor: int, size: int) -> None:
    """Give a file its size, and the disk's space for it where the system can."""
    if hasattr(os, "posix_fallocate") and size:
        try:
            os.posix_fallocate(descriptor, 0, size)
        except OSError as error:
            if error.errno not in {errno.EOPNOTSUPP, errno.EINVAL}:  # some network disks cannot
                raise
        else:
            return
    os.ftruncate(descriptor, size)


def sweep(out: Path) -> None:
    """Remove what publishing leaves beside and in `out`; a merge that was killed there leaves it to the next."""
    (out / PARTIAL_MARK).unlink(missing_ok=True)
    if _aside(out).exists():
        shutil.rmtree(_aside(out))


def _aside(out: Path) -> Path:
    """Where an older OUT waits to be deleted: a name that nobody else gives to anything."""
    return out.with_name(f".{out.name}.hubmerge-replaced")


def _is_empty(folder: Path) -> bool:
    return folder.is_dir() and not any(folder.iterdir())


def _failed(error: OSError, out: Path) -> MergeError:
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return MergeError(
            "the disk is full", where=str(out), hint="free some space and merge again; nothing was left behind"
        )
    where = str(error.filename or out)
    return MergeError(f"the merge cannot be written ({error.strerror})", where=where, hint="nothing was left behind")
