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


def test_a_link_is_written_through(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    link = tmp_path / "results.json"
    link.symlink_to(tmp_path / "there" / "own.json")
    write_whole(link, "ä\n")
    assert link.is_symlink()
    assert (tmp_path / "there" / "own.json").read_bytes() == b"\xc3\xa4\n"


def test_what_is_no_file_is_written_as_it_is(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_whole(pipe, "numbers")
    assert os.read(reader, 20) == b"numbers"
    assert pipe.is_fifo()
