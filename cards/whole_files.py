"""Text files that are there whole or not at all: written beside their place, then renamed."""

from __future__ import annotations

from pathlib import Path

__all__ = ["write_whole"]


def write_whole(path: Path, text: str) -> None:
    """Write `text` in UTF-8 to `path`, in place of a link too; where that fails, by OSError, what was there stays as it was."""
    beside = path.with_name(f".{path.name}.partial")
    try:
        beside.write_text(text, encoding="utf-8", newline="\n")
        beside.replace(path)
    except OSError:
        beside.unlink(missing_ok=True)
        raise
