"""How many cores this process may use: the threads of whatever is not told another number."""

from __future__ import annotations

import os

__all__ = ["cores"]


def cores() -> int:
    """The cores at hand, those that the process is bound to where the system says so; at least 1."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
