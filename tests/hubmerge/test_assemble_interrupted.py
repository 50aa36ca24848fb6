"""A merge that does not come to its end: a full disk, a damaged parent, a kill; nothing of it stays, or the next one clears it."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from zoo import PAIR, contents, names, recipe, two_models, write_model

from hubmerge import MergeError, PlanError, assemble, merge
from hubmerge.io.writer import PARTIAL_MARK


def _config(folder: Path) -> str:
    return (folder / "config.json").read_text()


def test_a_disk_that_is_full_before_is_refused_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 9, 1))
    with pytest.raises(PlanError, match=r"the merge needs .*, .* are free") as refused:
        merge(recipe("linear", two_models(tmp_path)), tmp_path / "new" / "out")
    assert refused.value.where == str(tmp_path)
    assert names(tmp_path) == ["a", "b"]


def test_a_disk_that_fills_up_during_the_work_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pwrite, calls = os.pwrite, []

    def fills_up(descriptor: int, data: memoryview, offset: int) -> int:
        calls.append(offset)
        if len(calls) > 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        return pwrite(descriptor, data, offset)

    monkeypatch.setattr(os, "pwrite", fills_up)
    with pytest.raises(MergeError) as refused:
        merge(recipe("linear", two_models(tmp_path)), tmp_path / "new" / "out", jobs=1)
    assert str(refused.value) == (
        f"the disk is full · {tmp_path}/new/out · free some space and merge again; nothing was left behind"
    )
    assert names(tmp_path) == ["a", "b"]


def test_a_failure_while_replacing_leaves_the_older_merge(tmp_path: Path) -> None:
    folders = two_models(tmp_path)
    merge(recipe("linear", folders), tmp_path / "out")
    before = contents(tmp_path / "out")
    write_model(folders[1], {**PAIR, "w": np.full((6, 5), np.inf, "float32")}, config=json.loads(_config(folders[1])))
    with pytest.raises(MergeError, match=r"tensor 'w' of .*/b is not finite: entry 0 is inf"):
        merge(recipe("linear", folders), tmp_path / "out", overwrite=True)
    assert contents(tmp_path / "out") == before
    assert names(tmp_path) == ["a", "b", "out"]


def test_a_parent_that_shrinks_during_the_merge_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = two_models(tmp_path)
    weights = folders[1] / "model.safetensors"
    execute = assemble.execute

    def shrink_first(*arguments: Any, **rest: Any) -> None:
        os.truncate(weights, weights.stat().st_size - 100)
        execute(*arguments, **rest)

    monkeypatch.setattr(assemble, "execute", shrink_first)
    with pytest.raises(MergeError, match=r"model\.safetensors ended inside tensor") as refused:
        merge(recipe("linear", folders), tmp_path / "out")
    assert refused.value.where == str(weights)
    assert refused.value.hint == "the file changed during the merge; merge again"
    assert names(tmp_path) == ["a", "b"]


KILLED_AT = {
    "before the first tensor": "writer.OutputFolder.write = die",
    "after the first tensor": "writer.OutputFolder.write = after(1, writer.OutputFolder.write)",
    "before the manifest": "assemble._manifest = die",
    "before publishing": "writer.OutputFolder.publish = die",
    "with the older merge put aside": "pathlib.Path.rename = after(1, pathlib.Path.rename)",
    "before sweeping up": "writer.sweep = die",
}
KILLING = """
import os, pathlib, signal, sys
from hubmerge import assemble, merge
from hubmerge.io import writer

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

def after(count, function):
    calls = []
    def counted(*arguments):
        calls.append(1)
        return function(*arguments) if len(calls) <= count else die()
    return counted

{patch}
merge({recipe!r}, "out", jobs=1, overwrite=True)
"""


@pytest.mark.parametrize("moment", KILLED_AT)
def test_after_a_kill_the_same_merge_ends_with_the_same_bytes_and_no_trace(tmp_path: Path, moment: str) -> None:
    import signal

    from zoo import run_python

    asked = recipe("linear", two_models(tmp_path))
    merge(asked, tmp_path / "clean")
    older = recipe("passthrough", [tmp_path / "a"])
    merge(older, tmp_path / "out")
    killed = run_python(KILLING.format(patch=KILLED_AT[moment], recipe=asked), cwd=tmp_path)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert len([path for path in tmp_path.iterdir() if "out" in path.name]) > 1  # it was killed in the middle
    merge(asked, tmp_path / "out", overwrite=True)
    assert contents(tmp_path / "out") == contents(tmp_path / "clean")
    assert names(tmp_path) == ["a", "b", "clean", "out"]


def test_a_merge_killed_by_a_closed_terminal_is_taken_over_only_by_its_own_recipe(tmp_path: Path) -> None:
    folders = two_models(tmp_path)
    (tmp_path / "out.partial").mkdir()
    (tmp_path / "out.partial" / PARTIAL_MARK).write_text("0" * 64)
    with pytest.raises(PlanError, match="is left from another merge than this plan"):
        merge(recipe("linear", folders), tmp_path / "out")
    merge(recipe("linear", folders), tmp_path / "out", fresh=True)
    assert names(tmp_path) == ["a", "b", "out"]
