"""The output folder: complete or not there at all, and nobody else's folders touched."""

# ruff: noqa: PT012 - the folder is a context manager, and what it does on an error is tested here

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from hubmerge import MergeError, PlanError
from hubmerge.errors import MergeInterrupted
from hubmerge.io.partial import PARTIAL_MARK, aside_of, partial_of, percent, put_back
from hubmerge.io.writer import OutputFolder

HEADERS, SIZES = {"model.safetensors": b"head"}, {"model.safetensors": 12}


def fill(folder: OutputFolder, first: int = 1) -> None:
    folder.reserve(HEADERS, SIZES)
    folder.write("model.safetensors", 8, np.array([first + 4, first + 5, first + 6, first + 7], np.uint8))
    folder.write("model.safetensors", 4, np.array([first, first + 1, first + 2, first + 3], np.uint8))


def names(place: Path) -> list[str]:
    return sorted(path.name for path in place.iterdir())


def test_a_published_folder_holds_what_was_written_and_nothing_else(tmp_path: Path) -> None:
    with OutputFolder(tmp_path / "out", "hash") as folder:
        fill(folder)
        folder.write_file("config.json", b"{}")
        folder.write_file("1_Pooling/config.json", b"[]")
        assert names(tmp_path) == ["out.partial"]
        folder.publish()
    assert names(tmp_path) == ["out"]
    assert names(tmp_path / "out") == ["1_Pooling", "config.json", "model.safetensors"]
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == b"head\x01\x02\x03\x04\x05\x06\x07\x08"
    assert (tmp_path / "out" / "1_Pooling" / "config.json").read_bytes() == b"[]"


def test_leaving_without_publishing_leaves_nothing(tmp_path: Path) -> None:
    with OutputFolder(tmp_path / "new" / "deep" / "out", "hash") as folder:
        fill(folder)
    assert names(tmp_path) == []


def test_an_error_inside_removes_every_trace_and_keeps_the_folders_that_were_there(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    with pytest.raises(KeyboardInterrupt), OutputFolder(tmp_path / "there" / "new" / "out", "hash") as folder:
        fill(folder)
        raise KeyboardInterrupt
    assert names(tmp_path) == ["there"]
    assert names(tmp_path / "there") == []


ENDINGS: dict[str, tuple[Callable[[], BaseException], type[BaseException]]] = {
    "too large · w · choose another; {left}": (
        lambda: MergeError("too large", where="w", hint="choose another"),
        MergeError,
    ),
    "one · {left}\ntwo · {left}": (lambda: PlanError.of([PlanError("one"), PlanError("two")]), PlanError),
    "the disk is full · {out} · free some space and merge again; {left}": (
        lambda: OSError(errno.ENOSPC, "full"),
        MergeError,
    ),
    "the merge cannot be written (broken) · {out} · {left}": (lambda: OSError(errno.EIO, "broken"), MergeError),
    "interrupted: {left}": (KeyboardInterrupt, MergeInterrupted),
}


@pytest.mark.parametrize("text", ENDINGS)
@pytest.mark.parametrize("kept", [0, 7])
def test_every_error_says_what_is_left(tmp_path: Path, text: str, kept: int) -> None:
    out, (error, raised) = tmp_path / "out", ENDINGS[text]
    with pytest.raises(raised) as refused, OutputFolder(out, "hash") as folder:
        fill(folder)
        if kept:
            folder.keep(kept, 8)
        raise error()
    left = f"{out}.partial holds 87 % of the merge; the same command goes on from there"
    assert str(refused.value) == text.format(out=out, left=left if kept else "nothing was left behind")
    assert names(tmp_path) == (["out.partial"] if kept else [])


def test_what_was_kept_is_found_as_it_is_by_the_next_of_the_same_plan(tmp_path: Path) -> None:
    with OutputFolder(tmp_path / "out", "hash") as folder:
        fill(folder)
        folder.keep(8, 8)
    before = (tmp_path / "out.partial" / "model.safetensors").read_bytes()
    with OutputFolder(tmp_path / "out", "hash") as folder:
        assert folder.open_complete({**SIZES, "another": 5}) == set(SIZES)
        folder.reserve(HEADERS, SIZES)
        folder.sync()
        folder.publish()
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == before
    assert names(tmp_path / "out") == ["model.safetensors"]


def test_what_was_kept_and_then_forgotten_is_removed(tmp_path: Path) -> None:
    with OutputFolder(tmp_path / "out", "hash") as folder:
        fill(folder)
        folder.keep(8, 8)
        folder.forget()
    assert names(tmp_path) == []


def test_a_share_of_work_is_never_nothing_and_all_only_at_the_end() -> None:
    assert [percent(done, 1000) for done in (1, 9, 10, 19, 999, 1000)] == [1, 1, 1, 1, 99, 100]


def test_an_older_out_is_replaced_only_when_the_new_one_is_complete(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "old").touch()
    with OutputFolder(out, "hash", replace=True) as folder:
        fill(folder)
        assert names(out) == ["old"]
        folder.publish()
    assert names(tmp_path) == ["out"]
    assert names(out) == ["model.safetensors"]


def test_an_older_out_comes_back_when_it_cannot_be_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "old").touch()
    rename = Path.rename

    def refuse_publishing(self: Path, target: Path) -> Path:
        if self.name == "out.partial":
            raise OSError(errno.EBUSY, "Device or resource busy", str(self))
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refuse_publishing)
    with pytest.raises(MergeError) as refused, OutputFolder(out, "hash", replace=True) as folder:
        fill(folder)
        folder.publish()
    assert str(refused.value) == (
        f"the merge cannot be written (Device or resource busy) · {tmp_path}/out.partial · nothing was left behind"
    )
    assert names(tmp_path) == ["out"]
    assert names(out) == ["old"]


def test_a_folder_beside_out_that_somebody_called_replaced_stays(tmp_path: Path) -> None:
    for name in ("out", "out.replaced"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mine").touch()
    with OutputFolder(tmp_path / "out", "hash", replace=True) as folder:
        fill(folder)
        folder.publish()
    assert names(tmp_path) == ["out", "out.replaced"]
    assert names(tmp_path / "out.replaced") == ["mine"]


def interrupted(out: Path, plan_hash: str) -> None:
    """What a merge that was killed leaves."""
    partial_of(out).mkdir()
    (partial_of(out) / PARTIAL_MARK).write_text(plan_hash + "\n")
    (partial_of(out) / "model.safetensors").write_bytes(b"half")


def test_what_the_same_plan_left_is_taken_over(tmp_path: Path) -> None:
    interrupted(tmp_path / "out", "hash")
    with OutputFolder(tmp_path / "out", "hash") as folder:
        fill(folder)
        folder.publish()
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize("call", ["open", "read_text"])
def test_what_was_left_survives_a_merge_that_cannot_take_it_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    interrupted(tmp_path / "out", "hash")
    monkeypatch.setattr(os if call == "open" else Path, call, fails)
    with pytest.raises(MergeError) as refused:
        OutputFolder(tmp_path / "out", "hash").__enter__()
    monkeypatch.undo()
    assert str(refused.value) == (
        f"{tmp_path}/out.partial cannot be created (Too many open files) · {tmp_path}/out · choose another OUT"
    )
    assert names(tmp_path / "out.partial") == [PARTIAL_MARK, "model.safetensors"]


def test_ctrl_c_while_the_folder_is_made_says_what_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def pressed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    interrupted(tmp_path / "out", "another")
    monkeypatch.setattr("hubmerge.io.writer.discard", pressed)
    with pytest.raises(MergeInterrupted) as ended:
        OutputFolder(tmp_path / "out", "hash", fresh=True).__enter__()
    assert str(ended.value) == f"interrupted: {tmp_path}/out.partial is still there"
    monkeypatch.undo()
    monkeypatch.setattr(Path, "write_text", pressed)
    with pytest.raises(MergeInterrupted) as ended:
        OutputFolder(tmp_path / "new" / "out", "hash").__enter__()
    assert str(ended.value) == "interrupted: nothing was left behind"
    assert names(tmp_path) == ["out.partial"]


def test_ctrl_c_between_the_two_renames_leaves_the_older_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, rename = tmp_path / "out", Path.rename
    out.mkdir()
    (out / "old").touch()

    def pressed(path: Path, target: Path) -> None:
        if path.suffix == ".partial":
            raise KeyboardInterrupt
        rename(path, target)

    monkeypatch.setattr(Path, "rename", pressed)
    with (
        pytest.raises(MergeInterrupted, match=r"^interrupted: nothing was left behind$"),
        OutputFolder(out, "hash", replace=True) as folder,
    ):
        fill(folder)
        folder.publish()
    assert names(tmp_path) == ["out"]
    assert names(out) == ["old"]


def test_an_older_out_that_cannot_be_deleted_is_named_and_the_new_one_is_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(path: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", "old")

    out, aside = tmp_path / "out", aside_of(tmp_path / "out")
    out.mkdir()
    (out / "old").touch()
    monkeypatch.setattr("shutil.rmtree", refused)
    with pytest.raises(MergeError) as fault, OutputFolder(out, "hash", replace=True) as folder:
        fill(folder)
        folder.publish()
    assert str(fault.value) == (
        f"what out was before cannot be deleted (Permission denied) · {aside} · delete it yourself; {out} is complete"
    )
    assert names(out) == ["model.safetensors"]


def test_an_older_out_is_left_aside_while_another_merge_publishes(tmp_path: Path) -> None:
    out, aside = tmp_path / "out", aside_of(tmp_path / "out")
    aside.mkdir()
    with OutputFolder(out, "hash") as folder:
        fill(folder)
        put_back(out)
        assert names(tmp_path) == [aside.name, "out.partial"]
        folder.publish()
    assert names(tmp_path) == ["out"]


def test_what_another_plan_left_is_refused_and_kept(tmp_path: Path) -> None:
    interrupted(tmp_path / "out", "another")
    with pytest.raises(PlanError) as refused, OutputFolder(tmp_path / "out", "0123456789abcdef"):
        pass
    assert str(refused.value) == (
        f"{tmp_path}/out.partial is left from another merge (plan another) than this (plan 0123456789ab) · {tmp_path}/out · "
        "--fresh discards it; or choose another OUT"
    )
    assert names(tmp_path / "out.partial") == [PARTIAL_MARK, "model.safetensors"]


def test_what_another_plan_left_is_discarded_when_asked(tmp_path: Path) -> None:
    interrupted(tmp_path / "out", "another")
    with OutputFolder(tmp_path / "out", "hash", fresh=True) as folder:
        fill(folder)
        folder.publish()
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize("fresh", [False, True])
@pytest.mark.parametrize("plan_hash", ["hash", "another"])
def test_two_merges_into_one_out_do_not_take_from_each_other(tmp_path: Path, plan_hash: str, fresh: bool) -> None:
    out = tmp_path / "out"
    with OutputFolder(out, "hash") as first:
        fill(first)
        with pytest.raises(PlanError) as refused, OutputFolder(out, plan_hash, fresh=fresh):
            pass
        assert names(tmp_path / "out.partial") == [PARTIAL_MARK, "model.safetensors"]
        first.publish()
    assert str(refused.value) == (
        f"another merge is writing {out}.partial at this moment · {out} · wait until it has ended, or choose another OUT"
    )
    assert names(tmp_path) == ["out"]
    assert names(out) == ["model.safetensors"]


def test_a_merge_that_has_ended_leaves_the_next_one_alone(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with OutputFolder(out, "hash") as first:
        fill(first)
        first.publish()
        second = OutputFolder(out, "another", replace=True).__enter__()
    assert names(tmp_path) == ["out", "out.partial"]
    fill(second)
    second.publish()
    second.__exit__(None, None, None)
    assert names(tmp_path) == ["out"]


def test_an_out_that_appeared_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(MergeError) as refused, OutputFolder(out, "hash") as folder:
        fill(folder)
        out.mkdir()
        (out / "mine").touch()
        folder.publish()
    assert str(refused.value) == (
        f"{out} was made by something else while the merge ran · {out} · move it away; nothing was left behind"
    )
    assert names(tmp_path) == ["out"]
    assert names(out) == ["mine"]


@pytest.mark.parametrize("error", [errno.ENOLCK, errno.ENOTSUP])
def test_a_disk_without_locks_is_written_to_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    import fcntl

    def unsupported(*_: object) -> None:
        raise OSError(error, "no locks here")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    with OutputFolder(tmp_path / "out", "hash") as folder:
        fill(folder)
        folder.publish()
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize("target", ["elsewhere", "nowhere"])
def test_a_partial_that_is_a_link_is_refused_and_kept(tmp_path: Path, target: str) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out.partial").symlink_to(target)
    with pytest.raises(PlanError, match=r"out\.partial exists and is not what a merge leaves"):
        OutputFolder(tmp_path / "out", "hash", fresh=True).__enter__()
    assert names(tmp_path) == ["elsewhere", "out.partial"]


@pytest.mark.parametrize("fresh", [False, True])
@pytest.mark.parametrize("kind", ["folder", "file"])
def test_a_partial_that_no_merge_left_is_refused_and_kept(tmp_path: Path, kind: str, fresh: bool) -> None:
    partial = tmp_path / "out.partial"
    if kind == "folder":
        partial.mkdir()
        (partial / "thesis.txt").touch()
    else:
        partial.touch()
    with pytest.raises(PlanError) as refused, OutputFolder(tmp_path / "out", "hash", fresh=fresh):
        pass
    assert str(refused.value) == (
        f"{partial} exists and is not what a merge leaves · {tmp_path}/out · move it away, or choose another OUT"
    )
    assert names(tmp_path) == ["out.partial"]
    assert kind == "file" or names(partial) == ["thesis.txt"]


def test_an_out_inside_a_file_cannot_be_created(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(MergeError) as refused, OutputFolder(tmp_path / "file" / "out", "hash"):
        pass
    assert str(refused.value) == (
        f"{tmp_path}/file/out.partial cannot be created (Not a directory) · {tmp_path}/file/out · choose another OUT"
    )


@pytest.mark.parametrize("call", ["posix_fallocate", "pwrite"])
def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(MergeError) as refused, OutputFolder(tmp_path / "new" / "out", "hash") as folder:
        if call == "pwrite":
            folder.reserve(HEADERS, SIZES)
        monkeypatch.setattr(os, call, full)
        fill(folder) if call == "posix_fallocate" else folder.write("model.safetensors", 4, np.zeros(4, np.uint8))
    assert str(refused.value) == (
        f"the disk is full · {tmp_path}/new/out · free some space and merge again; nothing was left behind"
    )
    assert names(tmp_path) == []


def test_a_disk_that_cannot_reserve_space_is_written_to_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(*_: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(os, "posix_fallocate", unsupported)
    with OutputFolder(tmp_path / "out", "hash") as folder:
        fill(folder)
        folder.publish()
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == b"head\x01\x02\x03\x04\x05\x06\x07\x08"


def test_a_write_that_the_system_cuts_short_is_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pwrite = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda descriptor, data, offset: pwrite(descriptor, data[:3], offset))
    with OutputFolder(tmp_path / "out", "hash") as folder:
        fill(folder)
        folder.publish()
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == b"head\x01\x02\x03\x04\x05\x06\x07\x08"
