"""What makes a command of its own process start sooner and take less memory."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["start_quickly", "without_collecting"]


def start_quickly() -> None:
    """Let compiled passes come from the disk, and numba, where it is needed still, not look for a BLAS.

    For the command line alone, never for a library: code that changes while the process runs would be stored as it was, and
    `np.dot` cannot be compiled any more.  Called before anything that is compiled, and numpy, is imported.
    """
    os.environ.setdefault(
        "OPENBLAS_THREAD_TIMEOUT", "4"
    )  # numpy's idle threads spin for 0.02 s and more before they sleep
    from hubmerge.jit import when_compiling
    from hubmerge.pass_store import open_store
    from zoo_index.cache_folder import cache_folder

    when_compiling(_compile_without_blas)
    open_store(cache_folder() / "passes")


@contextmanager
def without_collecting() -> Iterator[None]:
    """Look for no garbage while modules are imported and a plan is made, which leave little: a fifteenth of the start.

    Nor, afterwards, in what they made, until the process ends.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if collecting:
            gc.enable()


def _compile_without_blas() -> None:
    """Spare numba the import of scipy.linalg, only to know whether there is a BLAS: 0.2 s of processor time."""
    if "scipy.linalg" in sys.modules or "numba.np.arraymath" in sys.modules:
        return
    hidden: dict[str, Any] = sys.modules
    hidden["scipy.linalg"] = None
    try:
        import numba.np.arraymath  # noqa: F401 - imported for what it does not find
    finally:
        del hidden["scipy.linalg"]
