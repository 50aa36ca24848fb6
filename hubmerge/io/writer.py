"""The output folder: work happens in OUT.partial, and one rename makes it OUT.

An OUT that exists is replaced only when that was asked for, and only once the new one is complete.  OUT.partial belongs
to one merge at a time, and stays when a merge ends before its end and something of it can be used again.  Nothing is
brought to the disk before the rename, as in `cp`: after a power loss within seconds of it, `hubmerge verify` tells.
"""

from __future__ import annotations

import errno
import os
import shutil
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from hubmerge.compiled_files import TURN_BYTES, Target
from hubmerge.errors import HubmergeError, MergeError, MergeInterrupted, NumbersError, PlanError
from hubmerge.io.journal import to_disk
from hubmerge.io.lock import lock_folder
from hubmerge.io.partial import (
    PARTIAL_MARK,
    aside_of,
    discard,
    empty,
    is_empty,
    partial_of,
    percent,
    remove_aside,
    sweep,
)
from zoo_index.tensors import TensorMeta

__all__ = ["OutputFolder", "reserve"]


@dataclass(frozen=True)
class _File:
    """An open weight file, and what those who write into it take turns by: outside and inside compiled passes."""

    descriptor: int
    turn: threading.Lock = field(default_factory=threading.Lock)
    compiled_turn: npt.NDArray[np.uint8] = field(default_factory=lambda: np.zeros(TURN_BYTES, np.uint8))


class OutputFolder:
    """A context in which OUT.partial is filled; `publish` makes it OUT.

    Leaving without it removes every trace, unless some of the work was counted by `keep`: then OUT.partial stays, and the next
    merge of the same plan finds it; a `NumbersError` would come again, and leaves nothing.  Which of the two it was is added to
    the error: a `HubmergeError` says so in its hint, an `OSError` becomes a `MergeError`, a KeyboardInterrupt a
    `MergeInterrupted`.

    fresh: discard what an interrupted merge left in OUT.partial.  replace: an OUT that is there gives way.
    """

    def __init__(self, out: Path, plan_hash: str, *, fresh: bool = False, replace: bool = False) -> None:
        self.out = out
        self.partial = partial_of(out)
        self._ours = False
        self._worth_keeping = False
        self._kept = 0
        self._total = 0
        self._plan_hash = plan_hash
        self._fresh = fresh
        self._replace = replace
        self._held: int | None = None
        self._published = False
        self._files: dict[str, _File] = {}
        self._lock = threading.Lock()
        self._made: list[Path] = []

    def __enter__(self) -> Self:
        try:
            if not (os.path.lexists(self.partial) and self._take_over()):
                parent = self.out.parent
                while not parent.exists():
                    self._made.append(parent)
                    parent = parent.parent
                self.partial.mkdir(parents=True)
                self._ours = True
                self._held = lock_folder(self.partial)
                (self.partial / PARTIAL_MARK).write_text(self._plan_hash + "\n")
        except (BlockingIOError, FileExistsError):
            raise PlanError(
                f"another merge is writing {self.partial} at this moment",
                where=str(self.out),
                hint="wait until it has ended, or choose another OUT",
            ) from None
        except KeyboardInterrupt as error:
            self._leave()
            raise MergeInterrupted(f"interrupted: {self._left()}") from error
        except OSError as error:
            self._leave()
            raise MergeError(
                f"{self.partial} cannot be created ({error.strerror})", where=str(self.out), hint="choose another OUT"
            ) from error
        return self

    def _take_over(self) -> bool:
        """Make what an interrupted merge of this plan left ours, and return whether there was any; else discard it.

        Raises `PlanError` for what another plan left, unless that may be discarded, and `BlockingIOError` when it is not
        left but being written.
        """
        mark = self.partial / PARTIAL_MARK
        if self.partial.is_symlink() or not (mark.is_file() or is_empty(self.partial)):
            raise PlanError(
                f"{self.partial} exists and is not what a merge leaves",
                where=str(self.out),
                hint="move it away, or choose another OUT",
            )
        held = lock_folder(self.partial)
        keep = False
        try:
            left = mark.read_text(errors="replace").strip() if mark.is_file() else ""
            keep = left == self._plan_hash and not self._fresh
            if left not in {"", self._plan_hash} and not self._fresh:
                raise PlanError(
                    f"{self.partial} is left from another merge (plan {left[:12]}) than this (plan {self._plan_hash[:12]})",
                    where=str(self.out),
                    hint="--fresh discards it; or choose another OUT",
                )
            if not keep:
                discard(self.partial)
        finally:
            if keep:
                self._held, self._ours, self._worth_keeping = held, True, True
            elif held is not None:
                os.close(held)
        return keep

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()
        if isinstance(error, NumbersError):
            self.forget()
        self._leave()
        if isinstance(error, OSError):
            raise _failed(error, self.out, self._left()) from error
        if isinstance(error, KeyboardInterrupt):
            raise MergeInterrupted(f"interrupted: {self._left()}") from error
        if isinstance(error, HubmergeError):
            for fault in error.faults:
                fault.hint = "; ".join(part for part in (fault.hint, self._left()) if part)

    def _leave(self) -> None:
        if not (self._published or self._worth_keeping):
            self._remove()  # an OUT.partial that is here after publishing is another merge's
        if self._held is not None:
            os.close(self._held)
            self._held = None

    def _left(self) -> str:
        """What there is now, in words."""
        if self._published:
            return f"{self.out} is complete"
        if not self._worth_keeping:
            gone = not os.path.lexists(self.partial)
            return "nothing was left behind" if gone else f"{self.partial} is still there"
        if not self._total:
            return f"{self.partial} is as it was; the same command goes on from there"
        return f"{self.partial} holds {percent(self._kept, self._total)} % of the merge; the same command goes on from there"

    def _remove(self) -> None:
        if self._ours:
            with suppress(OSError):  # the error that led here is the one to tell
                discard(self.partial)
        for parent in self._made:
            if parent.is_dir() and not any(parent.iterdir()):
                parent.rmdir()

    def keep(self, count: int, total: int) -> None:
        """Count bytes, of `total`, that the next merge of the same plan can use again; from any thread.

        0 stands for something else that is worth keeping.
        """
        with self._lock:
            self._worth_keeping = True
            self._kept += count
            self._total = total

    def start_over(self) -> None:
        """Nothing that an interrupted merge left is gone on with: the folder is empty, and is left behind by none."""
        self.forget()
        empty(self.partial)

    def forget(self) -> None:
        """Nothing of this can be used again, or of what an interrupted merge left."""
        self._worth_keeping = False

    def _close(self) -> None:
        for file in self._files.values():
            os.close(file.descriptor)
        self._files.clear()

    def open_complete(self, sizes: Mapping[str, int]) -> set[str]:
        """Open those weight files that are here in their full size, and return their names."""
        for name, size in sizes.items():
            path = self.partial / name
            if path.is_file() and not path.is_symlink() and path.stat().st_size == size:
                self._files[name] = _File(os.open(path, os.O_RDWR | getattr(os, "O_BINARY", 0)))
        return set(self._files)

    def reserve(self, headers: Mapping[str, bytes], sizes: Mapping[str, int]) -> None:
        """Create the weight files with their headers and their full size, so that a full disk shows before any work.

        Those that `open_complete` opened keep what they hold.
        """
        for name, header in headers.items():
            if name not in self._files:
                (self.partial / name).unlink(missing_ok=True)
                flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
                self._files[name] = _File(os.open(self.partial / name, flags, 0o644))
            descriptor = self._files[name].descriptor
            reserve(descriptor, sizes[name])
            self._write_at(descriptor, memoryview(header), 0)

    def sync(self) -> None:
        """Bring what was written of the weight files to the disk."""
        for file in tuple(self._files.values()):
            to_disk(file.descriptor)

    def write(self, name: str, offset: int, entries: npt.NDArray[Any]) -> None:
        """Put an array's bytes at `offset` of a reserved file; any thread, any order."""
        # The system lets one writer at a time into a file, and lets the others spin: here they sleep.
        file = self._files[name]
        with file.turn:
            self._write_at(file.descriptor, entries.data.cast("B"), offset)

    def target(self, output: TensorMeta) -> Target:
        """Where a compiled pass may write a tensor of a reserved file."""
        file = self._files[output.file]
        return Target(file.descriptor, output.start, file.compiled_turn)

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
        aside = aside_of(self.out)
        if self.out.exists():
            if not (self._replace or is_empty(self.out)):
                raise MergeError(
                    f"{self.out} was made by something else while the merge ran",
                    where=str(self.out),
                    hint="move it away",
                )
            remove_aside(self.out)
            self.out.rename(aside)
        try:
            self.partial.rename(self.out)
        except BaseException:
            if not os.path.lexists(self.out) and aside.exists():
                aside.rename(self.out)
            raise
        self._published = True
        sweep(self.out)


def reserve(descriptor: int, size: int) -> None:
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


def _failed(error: OSError, out: Path, left: str) -> MergeError:
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return MergeError("the disk is full", where=str(out), hint=f"free some space and merge again; {left}")
    where = str(error.filename or out)
    return MergeError(f"the merge cannot be written ({error.strerror or error})", where=where, hint=left)
