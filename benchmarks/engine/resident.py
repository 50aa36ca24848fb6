"""The memory of this process as the kernel sees it, and its high-water mark set back."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Self

from hubmerge.free_memory import return_free_memory

__all__ = ["Watch", "forget_the_peak", "memory_of", "return_free_memory"]


def memory_of(field: str) -> int:
    """A field of /proc/self/status, in bytes."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status has no {field}")


def forget_the_peak() -> None:
    """Set the kernel's high-water mark of the resident set to what is resident now."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


class Watch:
    """Looks at the anonymous memory until it is told to stop; `worst` is the most it saw.  every: seconds between two looks."""

    def __init__(self, every: float = 0.002) -> None:
        self.worst = 0
        self._every = every
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._stop.is_set():
            self.worst = max(self.worst, memory_of("RssAnon"))
            time.sleep(self._every)
