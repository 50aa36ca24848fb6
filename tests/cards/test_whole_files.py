"""A file is there whole or as it was before."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from cards.whole_files import write_whole


def test_a_full_disk_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "results.json"
    place.write_text("before")

    def fails(path: Path, text: str, **_: object) -> int:
        os.write(os.open(path, os.O_WRONLY | os.O_CREAT), text[:3].encode())
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_text", fails)
    with pytest.raises(OSError, match="No space left"):
        write_whole(place, "after")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"results.json": "before"}


def test_a_link_is_replaced(tmp_path: Path) -> None:
    other, link = tmp_path / "other", tmp_path / "card.md"
    other.write_text("of somebody else")
    link.symlink_to(other)
    write_whole(link, "ä\n")
    assert not link.is_symlink()
    assert (link.read_bytes(), other.read_text()) == (b"\xc3\xa4\n", "of somebody else")
