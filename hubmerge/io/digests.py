"""sha256 of files while they are being written: a reader follows the finished beginning of each.

A digest needs a file's bytes in order, and a merge writes them nearly in order; read back at once they come from memory, not
from the disk.  What is left after the last write is the end of the last file.
"""

from __future__ import annotations

import hashlib
import heapq
import os
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from hubmerge.io.input_files import read_at
from hubmerge.io.workspace import Workspace

__all__ = ["FileDigests", "file_sha256"]

_BLOCK = 1 << 19
"""Bytes hashed at a time: they stay in the processor's cache between reading and hashing."""


def file_sha256(path: Path) -> str:
    """sha256 of a file, as hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class FileDigests:
    """Digests of files that are being written; a context, so that its threads end with it.

    sizes: name -> final size, in the order in which the files are finished.  threads: how many files are followed at once.
    """

    def __init__(self, folder: Path, sizes: Mapping[str, int], threads: int = 1) -> None:
        self._folder = folder
        self._sizes = dict(sizes)
        self._waiting = list(reversed(self._sizes))
        self._ready = dict.fromkeys(self._sizes, 0)
        self._apart: dict[str, list[tuple[int, int]]] = {name: [] for name in self._sizes}
        self._digests: dict[str, str] = {}
        self._changed = threading.Condition()
        self._stopped = False
        self._failure: BaseException | None = None
        count = max(1, min(threads, len(self._sizes)))
        self._threads = [threading.Thread(target=self._work, name="digest", daemon=True) for _ in range(count)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def written(self, name: str, spans: Iterable[tuple[int, int]]) -> None:
        """Tell that bytes start to stop of a file are written for good; every byte once, from any thread, in any order."""
        with self._changed:
            apart, ready = self._apart[name], self._ready[name]
            for span in spans:
                heapq.heappush(apart, span)
            while apart and apart[0][0] <= ready:
                ready = max(ready, heapq.heappop(apart)[1])
            if ready > self._ready[name]:
                self._ready[name] = ready
                self._changed.notify_all()

    def result(self) -> dict[str, str]:
        """sha256 of every file as hex, once all of them are written; raises what reading one of them raised."""
        for thread in self._threads:
            thread.join()
        if self._failure is not None:
            raise self._failure
        return {name: self._digests[name] for name in self._sizes}

    def _work(self) -> None:
        try:
            while (name := self._next()) is not None:
                self._follow(name)
        except BaseException as failure:
            with self._changed:
                self._failure = failure
                self._stopped = True
                self._changed.notify_all()

    def _next(self) -> str | None:
        with self._changed:
            return self._waiting.pop() if self._waiting and not self._stopped else None

    def _follow(self, name: str) -> None:
        digest, done, size = hashlib.sha256(), 0, self._sizes[name]
        workspace = Workspace()
        descriptor = os.open(self._folder / name, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        try:
            while done < size:
                ready = self._ready_after(name, done)
                if self._stopped:
                    return
                while done < ready and not self._stopped:
                    block = workspace.take("block", "u1", min(_BLOCK, ready - done), done).data
                    count = read_at(descriptor, block, done)
                    if count == 0:
                        raise OSError(f"{name} became shorter while it was written")
                    digest.update(block[:count])
                    done += count
        finally:
            os.close(descriptor)
        self._digests[name] = digest.hexdigest()

    def _ready_after(self, name: str, done: int) -> int:
        """Wait until more than `done` bytes of a file's beginning are written, or all is stopped; returns how many are."""
        with self._changed:
            self._changed.wait_for(lambda: self._stopped or self._ready[name] > done)
            return self._ready[name]
