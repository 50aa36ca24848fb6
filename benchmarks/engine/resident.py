"""The memory of this process as the kernel sees it, and its high-water mark set back."""

from __future__ import annotations

from pathlib import Path

from hubmerge.free_memory import return_free_memory

__all__ = ["forget_the_peak", "memory_of", "return_free_memory"]


def memory_of(field: str) -> int:
    """A field of /proc/self/status, in bytes."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status has no {field}")


def forget_the_peak() -> None:
    """Set the kernel's high-water mark of the resident set to what is resident now."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
