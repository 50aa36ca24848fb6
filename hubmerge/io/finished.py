"""Work in OUT.partial that was finished before an interruption: a file that is written last says so, and what the work depends on."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from hubmerge.io.journal import to_disk

__all__ = ["finish", "finished_before"]

Facts = TypeVar("Facts")


def finished_before(mark: Path, known: Mapping[str, Any], read: Callable[[Mapping[str, Any]], Facts]) -> Facts | None:
    """What `read` makes of the facts in `mark`; None where there is no such file, or it is of work that depends on other things.

    known: what the work depends on now, as JSON.  read: may raise KeyError, TypeError or ValueError for what are no such facts.
    """
    try:
        content = json.loads(mark.read_text(encoding="utf-8"))
        return read(content) if content["identity"] == known else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # what a kill or a crash left half
        return None


def finish(mark: Path, known: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
    """Bring the files in the folder of `mark` to the disk, and only then say in it that they are whole."""
    half = mark.with_name(f"{mark.name}.half")
    half.write_text(json.dumps({**facts, "identity": known}), encoding="utf-8")
    for path in mark.parent.rglob("*"):
        if path.is_file():
            with path.open("r+b") as file:
                to_disk(file.fileno())
    half.rename(mark)
