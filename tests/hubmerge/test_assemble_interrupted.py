"""A merge that does not come to its end: a full disk, a damaged parent, Ctrl-C: what it says, what it leaves, how it goes on."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import signal
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from zoo import PAIR, contents, names, random_values, read_model, recipe, run_python, two_models, write_model

from hubmerge import (
    MergeError,
    PlanError,
    build_plan,
    compute,
    execute,
    file_kernels,
    measure,
    merge,
    merge_pass,
    weights,
)
from hubmerge.assemble import merge_plan
from hubmerge.compiled_files import Target
from hubmerge.errors import MergeInterrupted
from hubmerge.io.partial import PARTIAL_MARK
from hubmerge.io.workspace import CHUNK
from hubmerge.plan_types import Step


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


def fills_up_after(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk takes `count` more writes of weights and headers, whichever way they are written."""
    pwrite, of_files = os.pwrite, merge_pass.pass_of_files
    calls: list[int] = []

    def write(descriptor: int, data: memoryview, offset: int) -> int:
        calls.append(offset)
        if len(calls) > count:
            raise OSError(errno.ENOSPC, "No space left on device")
        return pwrite(descriptor, data, offset)

    def watched(*arguments: Any) -> Any:
        through = of_files(*arguments)

        def one(target: Target, low: int, high: int) -> int:
            if len(calls) >= count or through is None:
                return file_kernels.NO_FILE
            calls.append(low)
            return through(target, low, high)

        return one

    monkeypatch.setattr(os, "pwrite", write)
    monkeypatch.setattr(merge_pass, "pass_of_files", watched)


def test_a_disk_that_fills_up_before_anything_is_done_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fills_up_after(1, monkeypatch)
    with pytest.raises(MergeError) as refused:
        merge(recipe("linear", two_models(tmp_path)), tmp_path / "new" / "out", jobs=1)
    assert str(refused.value) == (
        f"the disk is full · {tmp_path}/new/out · free some space and merge again; nothing was left behind"
    )
    assert names(tmp_path) == ["a", "b"]


def test_a_disk_that_fills_up_later_leaves_what_the_same_merge_goes_on_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = recipe("linear", two_models(tmp_path))
    merge(asked, tmp_path / "clean")
    fills_up_after(2, monkeypatch)  # the header and the 120 bytes of w; 24 of b and 24 of n are missing
    with pytest.raises(MergeError) as refused:
        merge(asked, tmp_path / "new" / "out", jobs=1)
    assert str(refused.value) == (
        f"the disk is full · {tmp_path}/new/out · free some space and merge again; "
        f"{tmp_path}/new/out.partial holds 71 % of the merge; the same command goes on from there"
    )
    monkeypatch.undo()
    written = computed(monkeypatch)
    merge(asked, tmp_path / "new" / "out")
    assert sorted(written) == ["b", "n"]
    assert contents(tmp_path / "new" / "out") == contents(tmp_path / "clean")
    assert names(tmp_path / "new") == ["out"]


def computed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the tensors that are computed from now on."""
    seen: list[str] = []
    computing = execute.compute

    def watched(step: Step, *arguments: Any) -> None:
        seen.append(step.output.name)
        computing(step, *arguments)

    monkeypatch.setattr(execute, "compute", watched)
    return seen


def test_files_that_may_not_be_that_large_are_told_at_the_reservation(tmp_path: Path) -> None:
    write = json.dumps(recipe("linear", two_models(tmp_path)))
    (tmp_path / "recipe.yaml").write_text(write)
    limited = "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (150, 150)); import runpy; "
    limited += (
        'sys.argv = ["hubmerge", "merge", "recipe.yaml", "out"]; runpy.run_module("hubmerge", run_name="__main__")'
    )
    ended = run_python(limited, cwd=tmp_path)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == "error: the merge cannot be written (File too large) · out · nothing was left behind\n"
    assert names(tmp_path) == ["a", "b", "recipe.yaml"]


def test_a_failure_while_replacing_leaves_the_older_merge(tmp_path: Path) -> None:
    folders = two_models(tmp_path)
    merge(recipe("linear", folders), tmp_path / "out")
    before = contents(tmp_path / "out")
    write_model(folders[1], {**PAIR, "w": np.full((6, 5), np.inf, "float32")}, config=json.loads(_config(folders[1])))
    with pytest.raises(MergeError, match=r"tensor 'w' of .*/b is not finite: entry 0 is inf"):
        merge(recipe("linear", folders), tmp_path / "out", overwrite=True, jobs=1)
    assert contents(tmp_path / "out") == before
    assert names(tmp_path) == ["a", "b", "out"]


def test_a_parent_that_shrinks_is_named_and_the_merge_goes_on_when_it_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = two_models(tmp_path)
    path = folders[1] / "model.safetensors"
    whole, state, plan = path.read_bytes(), path.stat(), build_plan(recipe("linear", folders), jobs=1)
    with pytest.raises(MergeError) as refused:  # after tensor w
        merge_plan(plan, tmp_path / "out", progress=lambda _: os.truncate(path, len(whole) - 100))
    assert str(refused.value) == (
        f"model.safetensors ended inside tensor 'b' · {path} · the file changed during the merge; merge again; "
        f"{tmp_path}/out.partial holds 71 % of the merge; the same command goes on from there"
    )
    path.write_bytes(whole)
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    written, notes = computed(monkeypatch), []
    merged = merge_plan(plan, tmp_path / "out", note=notes.append)
    assert sorted(written) == ["b", "n"]
    assert notes == [f"{tmp_path}/out.partial holds 71 % of this merge: going on from there"]
    assert merged.written is not None
    assert (merged.written.found, merged.written.total) == (120, 168)


def test_a_parent_that_was_mended_is_another_one_and_nothing_done_before_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = two_models(tmp_path)
    healthy, asked = read_model(folders[1]), recipe("linear", folders)
    broken = {**healthy, "b": np.full(6, np.nan, "float32")}
    write_model(folders[1], broken, config=json.loads(_config(folders[1])))
    with pytest.raises(MergeError, match=r"this parent is damaged; nothing was left behind$"):
        merge(asked, tmp_path / "out", jobs=1)
    write_model(folders[1], healthy, config=json.loads(_config(folders[1])))
    fills_up_after(2, monkeypatch)
    with pytest.raises(MergeError, match=r"holds 71 % of the merge"):
        merge(asked, tmp_path / "out", jobs=1)
    monkeypatch.undo()
    write_model(folders[1], {**healthy, "b": healthy["b"] + 1}, config=json.loads(_config(folders[1])))
    written, notes = computed(monkeypatch), []
    merge_plan(build_plan(asked), tmp_path / "out", note=notes.append)
    assert sorted(written) == ["b", "n", "w"]
    assert notes == [f"what is in {tmp_path}/out.partial is not used: a parent has changed since it was made"]
    merge(asked, tmp_path / "clean")
    assert contents(tmp_path / "out") == contents(tmp_path / "clean")


def test_a_parent_that_is_written_to_while_it_is_merged_is_named_and_nothing_is_kept(tmp_path: Path) -> None:
    folders = two_models(tmp_path)
    path, plan = folders[1] / "model.safetensors", build_plan(recipe("linear", folders), jobs=1)
    merge_plan(plan, tmp_path / "out")
    before = contents(tmp_path / "out")
    other = build_plan(recipe("linear", folders, own=[{"weight": 2}, {"weight": 1}]), jobs=1)
    with pytest.raises(MergeError) as refused:
        merge_plan(other, tmp_path / "out", overwrite=True, progress=lambda _: path.write_bytes(path.read_bytes()))
    assert str(refused.value) == (
        f"model.safetensors changed while it was merged · {path} · merge again when nothing writes to it any more; "
        "nothing was left behind"
    )
    assert contents(tmp_path / "out") == before
    assert names(tmp_path) == ["a", "b", "out"]


@pytest.mark.parametrize("now", ["another layout", "gone"])
def test_a_parent_that_is_not_the_one_planned_with_is_refused_before_anything_is_read(tmp_path: Path, now: str) -> None:
    folders = two_models(tmp_path)
    path, plan = folders[1] / "model.safetensors", build_plan(recipe("linear", folders))
    if now == "gone":
        path.unlink()
    else:
        tensors = read_model(folders[1])
        write_model(folders[1], {name: tensors[name] for name in reversed(tensors)})
    with pytest.raises(MergeError) as refused:
        merge_plan(plan, tmp_path / "out")
    assert str(refused.value) == (
        f"model.safetensors cannot be read (No such file or directory) · {path} · put it back"
        if now == "gone"
        else f"model.safetensors is not the file that was planned with · {folders[1]} · merge again"
    )
    assert names(tmp_path) == ["a", "b"]


def test_ctrl_c_stops_within_a_chunk_and_says_what_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tensors = {"w": np.zeros(40 * CHUNK, np.uint16)}
    folders = [write_model(tmp_path / name, tensors) for name in ("a", "b")]
    monkeypatch.setattr(compute, "AT_ONCE", CHUNK)
    plan, chunks = build_plan(recipe("linear", folders), jobs=1), []
    waiting, heard, wait = threading.Event(), threading.Event(), execute.wait

    def interruptible(*arguments: Any, **rest: Any) -> Any:
        try:
            waiting.set()
            return wait(*arguments, **rest)
        finally:
            heard.set()

    def pressed(done: int) -> None:
        chunks.append(done)
        if len(chunks) == 18:
            waiting.wait()
            os.kill(os.getpid(), signal.SIGINT)
            heard.wait()

    monkeypatch.setattr(execute, "wait", interruptible)
    with pytest.raises(MergeInterrupted) as ended:
        merge_plan(plan, tmp_path / "out", progress=pressed)
    assert len(chunks) < 24
    assert str(ended.value) == (
        f"interrupted: {tmp_path}/out.partial holds 40 % of the merge; the same command goes on from there"
    )
    assert merge_plan(plan, tmp_path / "out").written.found == 16 * CHUNK * 2  # type: ignore[union-attr]


def test_ctrl_c_in_the_passes_over_all_tensors_before_the_first_stops_within_a_chunk_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tensors = {f"w{i}": random_values((8,), i) for i in range(50)}
    folders = [write_model(tmp_path / name, tensors) for name in ("base", "a")]
    asked = recipe("ties", folders[1:], base=folders[0], density=0.5, trim_scope="model")
    heard, taken = threading.Event(), []
    take = measure.Workspace.take

    class Pool(measure.ThreadPoolExecutor):  # type: ignore[misc, name-defined]
        def __exit__(self, *error: object) -> None:
            heard.set()
            super().__exit__(*error)

    def pressed(workspace: Any, *arguments: Any) -> Any:
        taken.append(1)
        if len(taken) == 10:
            os.kill(os.getpid(), signal.SIGINT)
            heard.wait()
        return take(workspace, *arguments)

    monkeypatch.setattr(measure, "ThreadPoolExecutor", Pool)
    monkeypatch.setattr(measure.Workspace, "take", pressed)
    with pytest.raises(MergeInterrupted, match=r"^interrupted: nothing was left behind$"):
        merge(asked, tmp_path / "out", jobs=1)
    assert len(taken) < 60  # two for each tensor of a pass
    assert names(tmp_path) == ["a", "base"]


def test_what_was_measured_of_all_tensors_is_kept_though_none_is_merged_yet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tensors = {f"w{i}": random_values((8,), i) for i in range(3)}
    folders = [write_model(tmp_path / name, tensors) for name in ("base", "a")]
    asked = recipe("ties", folders[1:], base=folders[0], density=0.5, trim_scope="model")
    fills_up_after(1, monkeypatch)
    with pytest.raises(MergeError, match=r"the disk is full .* holds 1 % of the merge"):
        merge(asked, tmp_path / "out", jobs=1)
    monkeypatch.undo()
    monkeypatch.setattr(weights, "pooled_states", lambda *_: pytest.fail("what was measured is in the journal"))
    merge(asked, tmp_path / "out")
    assert names(tmp_path) == ["a", "base", "out"]


INTERRUPTED = """
import os, signal, sys, threading
from hubmerge import execute
from hubmerge.io.writer import OutputFolder
from hubmerge.cli.app import main

waiting, heard = threading.Event(), threading.Event()
wait, keep = execute.wait, OutputFolder.keep

def interruptible(*arguments, **rest):
    try:
        waiting.set()
        return wait(*arguments, **rest)
    finally:
        heard.set()

def interrupted(*arguments):
    keep(*arguments)
    waiting.wait()
    os.kill(os.getpid(), signal.{name})
    while not heard.wait(0.1):  # a signal that comes just before a thread begins to wait is not heard by it: wake it
        os.kill(os.getpid(), signal.SIGUSR1)

signal.signal(signal.SIGUSR1, lambda *_: None)
execute.wait, OutputFolder.keep = interruptible, interrupted
sys.argv[1:] = ["merge", "recipe.yaml", "out", "--jobs", "1"]
main()
"""


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_the_command_line_ends_a_merge_with_one_line_and_the_signals_code(tmp_path: Path, name: str, code: int) -> None:
    (tmp_path / "recipe.yaml").write_text(json.dumps(recipe("linear", two_models(tmp_path))))
    ended = run_python(INTERRUPTED.format(name=name), cwd=tmp_path)
    assert (ended.returncode, ended.stdout) == (code, ""), ended.stderr
    told = r"interrupted: out\.partial holds \d+ % of the merge; the same command goes on from there\n"
    assert re.fullmatch(told, ended.stderr), ended.stderr
    assert names(tmp_path) == ["a", "b", "out.partial", "recipe.yaml"]


AGAIN = INTERRUPTED.replace(
    "\nsignal.signal(",
    "    heard.clear()\n    while not heard.wait(0.1):\n        os.kill(os.getpid(), signal.{name})\n\nsignal.signal(",
)


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_a_second_signal_ends_a_merge_where_it_is(tmp_path: Path, name: str, code: int) -> None:
    (tmp_path / "recipe.yaml").write_text(json.dumps(recipe("linear", two_models(tmp_path))))
    ended = run_python(AGAIN.format(name=name), cwd=tmp_path)
    assert (ended.returncode, ended.stdout) == (code, ""), ended.stderr
    assert ended.stderr == "interrupted again: ended at once; the same command goes on from what is left\n"
    assert names(tmp_path) == ["a", "b", "out.partial", "recipe.yaml"]
    merge(tmp_path / "recipe.yaml", tmp_path / "out")
    assert names(tmp_path) == ["a", "b", "out", "recipe.yaml"]


EARLY = """
import os, signal, sys
import hubmerge.plan
from hubmerge.cli.app import main

hubmerge.plan.build_plan = lambda *_, **__: os.kill(os.getpid(), signal.SIGINT)
sys.argv[1:] = ["merge", "recipe.yaml", "out"]
main()
"""


def test_a_signal_before_the_merge_says_nothing_of_what_an_earlier_one_left(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(json.dumps(recipe("linear", two_models(tmp_path))))
    ended = run_python(EARLY, cwd=tmp_path)
    assert (ended.returncode, ended.stderr) == (130, "interrupted before anything was written\n")


def test_what_another_recipe_left_is_refused_unless_it_may_be_discarded(tmp_path: Path) -> None:
    folders = two_models(tmp_path)
    (tmp_path / "out.partial").mkdir()
    (tmp_path / "out.partial" / PARTIAL_MARK).write_text("0" * 64)
    with pytest.raises(PlanError, match=r"is left from another merge \(plan 0{12}\) than this \(plan [0-9a-f]{12}\)"):
        merge(recipe("linear", folders), tmp_path / "out")
    merge(recipe("linear", folders), tmp_path / "out", fresh=True)
    assert names(tmp_path) == ["a", "b", "out"]


def test_what_a_merge_left_is_room_for_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = recipe("linear", two_models(tmp_path))
    fills_up_after(2, monkeypatch)
    with pytest.raises(MergeError, match="holds 71 %"):
        merge(asked, tmp_path / "out", jobs=1)
    monkeypatch.undo()
    needed = build_plan(asked).bytes_written
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(needed, needed, 0))
    merge(asked, tmp_path / "out")
    assert names(tmp_path) == ["a", "b", "out"]
