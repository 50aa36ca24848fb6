"""The journal: every line is true after a kill, and after a power loss those before the last mark."""

from __future__ import annotations

import errno
import json
import os
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from hubmerge.io import journal
from hubmerge.io.journal import Found, Journal, Piece, read_journal

IDENTITY = {"plan": "0123", "samples": ["a", ""], "versions": {"numpy": "2.4"}}
PIECES = (Piece(0, 0, 48), Piece(0, 48, 70), Piece(3, 0, 5))
FOREIGN = journal.journal_line({"identity": ["of", "another", "form"]})


def nothing() -> None:
    """A sync with nothing to bring to the disk."""


def a_journal(path: Path, pieces: tuple[Piece, ...] = PIECES) -> None:
    with Journal(path, Found(IDENTITY), nothing) as kept:
        kept.add_pooled({"model": [0.5]})
        for piece in pieces:
            kept.add(piece)


def another_boot(monkeypatch: pytest.MonkeyPatch, boot: str | None = "another") -> None:
    monkeypatch.setattr(journal, "_boot_id", lambda: boot)


def test_what_was_noted_is_read_back(tmp_path: Path) -> None:
    a_journal(tmp_path / "journal")
    assert read_journal(tmp_path / "journal") == Found(IDENTITY, PIECES, {"model": [0.5]})


def test_no_journal_says_nothing(tmp_path: Path) -> None:
    assert read_journal(tmp_path / "journal") == Found()


def test_a_journal_that_is_cut_anywhere_says_what_its_whole_lines_say(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    a_journal(path)
    raw = path.read_bytes()
    for end in range(len(raw)):
        path.write_bytes(raw[:end])
        found = read_journal(path)
        whole = raw[:end].count(b"\n")  # the head, its mark, what is pooled, the pieces
        assert found.identity == (IDENTITY if whole else None)
        assert found.pieces == PIECES[: max(0, whole - 3)]


def test_nothing_after_a_damaged_line_is_believed(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    a_journal(path)
    raw = bytearray(path.read_bytes())
    raw[raw.index(b"[0,48,70]") + 4] ^= 1
    path.write_bytes(raw)
    assert read_journal(path).pieces == PIECES[:1]


@pytest.mark.parametrize("content", [b"", b"\n", b"\0" * 500, b"00000000 {}\n", b"notes\nof mine\n", FOREIGN])
def test_a_file_that_is_no_journal_says_nothing(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "journal").write_bytes(content)
    assert read_journal(tmp_path / "journal") == Found()


@pytest.mark.parametrize(
    "foreign",
    [
        [1, 2],
        [1, 2, 3, 4],
        [[1], 2, 3],
        ["0", 0, 5],
        {"synced": "all"},
        "text",
        None,
        b"{",
        b"\xff",
        b"[" * 100_000,
    ],
)
def test_a_line_of_another_form_ends_what_is_believed_of_a_journal(tmp_path: Path, foreign: object) -> None:
    path = tmp_path / "journal"
    a_journal(path)
    text = foreign if isinstance(foreign, bytes) else json.dumps(foreign).encode()
    with path.open("ab") as file:
        file.write(b"%08x %s\n" % (zlib.crc32(text), text))
        file.write(journal.journal_line([9, 0, 5]))
    assert read_journal(path) == Found(IDENTITY, PIECES, {"model": [0.5]})


def test_a_journal_of_any_size_is_read_in_bounded_memory(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    a_journal(path)
    os.truncate(path, 1 << 40)
    assert read_journal(path) == Found(IDENTITY, PIECES, {"model": [0.5]})


@pytest.mark.parametrize("boot", ["another", None])
def test_after_a_power_loss_only_what_was_brought_to_the_disk_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, boot: str | None
) -> None:
    path = tmp_path / "journal"
    a_journal(path)
    another_boot(monkeypatch, boot)
    assert read_journal(path) == Found(IDENTITY)


def test_what_was_taken_over_is_brought_to_the_disk_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, synced = tmp_path / "journal", []
    found = Found(IDENTITY, PIECES, {"model": [0.5]})
    with Journal(path, found, lambda: synced.append(path.exists())) as kept:
        kept.add(Piece(9, 0, 1))
    assert synced == [False]
    assert read_journal(path) == Found(IDENTITY, (*PIECES, Piece(9, 0, 1)), {"model": [0.5]})
    another_boot(monkeypatch)
    assert read_journal(path) == found


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Syncs follow one another without a pause."""
    monkeypatch.setattr(journal, "SYNC_SECONDS", 0.001)
    return iter(())


@pytest.mark.usefixtures("at_once")
def test_a_sync_marks_what_was_noted_before_it_began(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, begun, go_on, done = tmp_path / "journal", threading.Event(), threading.Event(), threading.Event()

    def sync() -> None:
        if begun.is_set():
            done.set()
            return
        begun.set()
        go_on.wait()

    with Journal(path, Found(IDENTITY), sync) as kept:
        kept.add(PIECES[0])
        begun.wait()
        kept.add(PIECES[1])
        raw = path.read_bytes()
        go_on.set()
        done.wait()  # the second sync has begun, so that the first has left its mark
        marked = path.read_bytes()
    lines = marked.removeprefix(raw).splitlines()
    (tmp_path / "lost").write_bytes(raw + lines[0] + b"\n")
    another_boot(monkeypatch)
    assert read_journal(tmp_path / "lost").pieces == PIECES[:1]


def add_for_ever(kept: Journal) -> None:
    while True:
        kept.add(PIECES[1])


@pytest.mark.usefixtures("at_once")
def test_a_sync_that_fails_stops_the_merge_and_takes_back_what_is_not_on_the_disk(tmp_path: Path) -> None:
    path, failed = tmp_path / "journal", threading.Event()

    def sync() -> None:
        failed.set()
        raise OSError(errno.ENOSPC, "No space left on device")

    with Journal(path, Found(IDENTITY), sync) as kept:
        kept.add(PIECES[0])
        failed.wait()
        with pytest.raises(OSError, match="No space left on device"):
            add_for_ever(kept)
    assert read_journal(path) == Found(IDENTITY)


def test_lines_of_several_threads_are_whole(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    with Journal(path, Found(IDENTITY), nothing) as kept:
        threads = [
            threading.Thread(target=lambda k=k: [kept.add(Piece(k, i, i + 1)) for i in range(50)]) for k in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(read_journal(path).pieces) == [Piece(k, i, i + 1) for k in range(4) for i in range(50)]


def test_a_kill_while_the_journal_is_made_anew_leaves_the_older_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "journal"
    a_journal(path)
    monkeypatch.setattr(Path, "replace", lambda *_: None)
    before = read_journal(path)
    Journal(path, Found({"plan": "other"}), nothing)
    assert read_journal(path) == before
