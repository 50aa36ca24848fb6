"""The journal of a merge: which of its pieces are in OUT.partial, so that the same command goes on where it ended.

A line is written after its piece was written, by the same process to the same system: when the process dies, however it
dies, every line is true.  A power loss is different, since the system may have kept line and piece in memory.  So every
`SYNC_SECONDS` a thread brings the weight files to the disk first and then a line that says up to where the journal may be
believed.  The first line holds the system's boot: in another boot only the lines before the last such line count.
"""

from __future__ import annotations

import json
import os
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, NamedTuple, Self

__all__ = [
    "JOURNAL_NAME",
    "SYNC_SECONDS",
    "Found",
    "Journal",
    "Piece",
    "journal_line",
    "read_journal",
    "to_disk",
    "whole_lines",
]

JOURNAL_NAME = ".hubmerge-journal"
"""File in OUT.partial."""
SYNC_SECONDS = 15.0
"""How much work a power loss can cost.  Bringing 2.2 GB to the disk takes about a second of its time and none of ours."""
_LONGEST_LINE = 1 << 26
"""What is longer was not written here; a damaged journal of any size is read in bounded memory."""


class Piece(NamedTuple):
    """One finished unit of work: entries `start` to `stop` of the output of step number `step` of the plan."""

    step: int
    start: int
    stop: int


@dataclass(frozen=True)
class Found:
    """What a journal says.  identity: what the work belongs to; pieces: what is done; pooled: what was measured before.

    An identity of None stands for no journal, or one whose first line was never finished.
    """

    identity: Mapping[str, Any] | None = None
    pieces: tuple[Piece, ...] = ()
    pooled: Any = None


def read_journal(path: Path) -> Found:
    """What the journal at `path` says, up to the first line that is damaged, foreign, or was never finished."""
    try:
        with path.open("rb") as file:
            lines = list(whole_lines(file))
    except FileNotFoundError:
        return Found()
    head = lines[0][1] if lines else None
    if not isinstance(head, dict) or not isinstance(head.get("identity"), dict):
        return Found()
    boot = _boot_id()
    believed = lines[-1][0]
    if boot is None or head.get("boot") != boot:
        believed = max((line["synced"] for _, line in lines if isinstance(line, dict) and "synced" in line), default=0)
    counted = [line for end, line in lines[1:] if end <= believed]
    pieces = tuple(Piece(*line) for line in counted if isinstance(line, list))
    pooled = next((line["pooled"] for line in counted if isinstance(line, dict) and "pooled" in line), None)
    return Found(head["identity"], pieces, pooled)


def whole_lines(file: BinaryIO) -> Iterator[tuple[int, Any]]:
    """The whole lines of a journal, each with the offset of its end, up to the first that is damaged."""
    end = 0
    while (line := file.readline(_LONGEST_LINE)).endswith(b"\n"):
        check, _, text = line[:-1].partition(b" ")
        if check != b"%08x" % zlib.crc32(text):
            return
        try:
            content = json.loads(text)
        except (ValueError, RecursionError):
            return
        if not _is_ours(content):
            return
        end += len(line)
        yield end, content


def _is_ours(content: Any) -> bool:
    """Whether a line has the form of those that are written here; another version's may not."""
    if isinstance(content, list):
        return len(content) == len(Piece._fields) and all(isinstance(number, int) for number in content)
    return isinstance(content, dict) and isinstance(content.get("synced", 0), int)


def journal_line(content: Any) -> bytes:
    """A list or a mapping as a line that `whole_lines` reads again."""
    text = json.dumps(content, separators=(",", ":")).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


def _boot_id() -> str | None:
    """What tells one boot of this system from the next; None where the system does not say."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return None


class Journal:
    """The journal while its merge runs; a context, so that its thread ends with it.

    path: the file, made anew; what `found` says is taken over.  sync: brings everything written of the weight files to the
    disk.  An error of a sync is raised by the next `add`: what was not on the disk by then may never get there, so the
    journal is cut back to what is.
    """

    def __init__(self, path: Path, found: Found, sync: Callable[[], None]) -> None:
        self._sync = sync
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._failure: OSError | None = None
        if found.pieces:
            sync()
        head = {"identity": found.identity, "boot": _boot_id()}
        lines = [journal_line(head), *([journal_line({"pooled": found.pooled})] if found.pooled is not None else [])]
        lines += [journal_line(list(piece)) for piece in found.pieces]
        text = b"".join(lines)
        self._synced = len(text)
        self._noted = self._synced
        beside = path.with_name(path.name + ".new")
        beside.write_bytes(text + journal_line({"synced": self._synced}))
        beside.replace(path)  # a kill leaves the older journal or this one
        self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | getattr(os, "O_BINARY", 0))
        to_disk(self._descriptor)
        self._thread = threading.Thread(target=self._keep_synced, name="journal", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        os.close(self._descriptor)

    def add(self, piece: Piece) -> None:
        """Note that `piece` was written; from any thread."""
        self._note(list(piece))

    def add_pooled(self, pooled: Any) -> None:
        """Keep what was measured of all tensors before the first was merged: a JSON value, not None."""
        self._note({"pooled": pooled})

    def _note(self, content: Any) -> None:
        with self._lock:
            if self._failure is not None:
                raise self._failure
            self._append(journal_line(content))
            self._noted = os.fstat(self._descriptor).st_size

    def _append(self, data: bytes) -> None:
        done = 0
        while done < len(data):
            done += os.write(self._descriptor, data[done:])

    def _keep_synced(self) -> None:
        while not self._ended.wait(SYNC_SECONDS):
            with self._lock:
                noted = self._noted
            if noted == self._synced:
                continue
            try:
                self._sync()
                with self._lock:
                    self._append(journal_line({"synced": noted}))
                    self._synced = noted
                to_disk(self._descriptor)
            except OSError as error:
                with self._lock:
                    self._failure = error
                    os.ftruncate(self._descriptor, self._synced)
                return


def to_disk(descriptor: int) -> None:
    """Bring what was written of a file to the disk, its size included."""
    (os.fdatasync if hasattr(os, "fdatasync") else os.fsync)(descriptor)
