"""Compiled passes that all processes of one run of the tests share, so that each is compiled once."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["shared_passes"]


@contextmanager
def shared_passes(cache: Path) -> Iterator[None]:
    """Give a cache of a test's own, as ``HUBMERGE_CACHE``, the passes of the run, and the run those that are new in it."""
    common, own = Path(os.environ["HUBMERGE_CACHE"]) / "passes", cache / "passes"
    own.mkdir(mode=0o700, parents=True)
    _link(common, own)
    yield
    _link(own, common)


def _link(source: Path, target: Path) -> None:
    for path in source.iterdir():
        if not path.suffix:  # .new: another process is writing it
            with suppress(FileExistsError, FileNotFoundError):
                (target / path.name).hardlink_to(path)
