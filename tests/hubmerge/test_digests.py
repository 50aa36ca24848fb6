"""Digests of files that are still being written."""

from __future__ import annotations

import hashlib
import threading
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubmerge.io import digests
from hubmerge.io.digests import FileDigests, file_sha256


def write(path: Path, content: bytes) -> bytes:
    path.write_bytes(content)
    return content


@given(
    cuts=st.lists(st.lists(st.integers(0, 3000), max_size=8, unique=True), min_size=1, max_size=3),
    shuffled=st.randoms(use_true_random=False),
    threads=st.integers(1, 4),
)
def test_whatever_the_order_of_writing_the_digest_is_the_files(
    tmp_path_factory: pytest.TempPathFactory, cuts: list[list[int]], shuffled: object, threads: int
) -> None:
    folder = tmp_path_factory.mktemp("files")
    spans = []
    for i, places in enumerate(cuts):
        content = write(folder / f"{i}", bytes((j * 7 + i) % 251 for j in range(3001)))
        edges = sorted({0, *places, len(content)})
        spans += [(f"{i}", span) for span in pairwise(edges)]
    shuffled.shuffle(spans)  # type: ignore[attr-defined]
    sizes = {f"{i}": 3001 for i in range(len(cuts))}
    with FileDigests(folder, sizes, threads) as follow:
        for name, span in spans:
            follow.written(name, [span])
        assert follow.result() == {name: file_sha256(folder / name) for name in sizes}


def test_a_digest_is_sha256_of_all_bytes(tmp_path: Path) -> None:
    content = write(tmp_path / "f", b"abc" * 1000)
    assert file_sha256(tmp_path / "f") == hashlib.sha256(content).hexdigest()


def test_only_what_is_written_from_the_beginning_on_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "f", bytes(100))
    read, reached, read_at = [], threading.Event(), digests.read_at

    def watched(descriptor: int, buffer: memoryview, offset: int) -> int:
        count = read_at(descriptor, buffer, offset)
        read.append((offset, offset + count))
        reached.set()
        return count

    monkeypatch.setattr(digests, "read_at", watched)
    with FileDigests(tmp_path, {"f": 100}) as follow:
        follow.written("f", [(50, 70)])
        follow.written("f", [(0, 20)])
        reached.wait()
        follow.written("f", [(20, 50)])
        follow.written("f", [(70, 100)])
        follow.result()
    assert read[0] == (0, 20)
    assert [start for start, _ in read[1:]] == [stop for _, stop in read[:-1]]
    assert read[-1][1] == 100


def test_leaving_early_ends_the_threads(tmp_path: Path) -> None:
    write(tmp_path / "f", bytes(100))
    with FileDigests(tmp_path, {"f": 100, "g": 5}, 2) as follow:
        follow.written("f", [(0, 20)])
    assert not any(thread.name == "digest" for thread in threading.enumerate())


def test_a_file_that_cannot_be_read_is_an_error_at_the_end(tmp_path: Path) -> None:
    with FileDigests(tmp_path, {"gone": 10}) as follow:
        follow.written("gone", [(0, 10)])
        with pytest.raises(FileNotFoundError, match="gone"):
            follow.result()


def test_a_file_that_becomes_shorter_is_an_error(tmp_path: Path) -> None:
    write(tmp_path / "f", bytes(10))
    with FileDigests(tmp_path, {"f": 20}) as follow:
        follow.written("f", [(0, 20)])
        with pytest.raises(OSError, match="f became shorter while it was written"):
            follow.result()
