"""A merge that is killed, at whatever moment: the same command ends with the same bytes, and does only what was missing."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from zoo import contents, names, random_values, read_model, recipe, write_model

from hubmerge import PlanError, build_plan, carry_out, compute, execute, file_kernels, merge, merge_pass, weights
from hubmerge.assemble import merge_plan
from hubmerge.errors import MergeInterrupted
from hubmerge.io import input_files, journal, writer
from hubmerge.io.journal import JOURNAL_NAME, Piece, read_journal
from hubmerge.plan_types import Plan, Step

TENSORS = {f"layer.{i}.w": random_values((5 + i, 7), i) for i in range(9)} | {"n": random_values((3,), 20)}


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Units of work of at most 48 entries in chunks of 16, so that there are many; read and written 5 at a time."""
    monkeypatch.setattr(execute, "_PIECE", 48)
    monkeypatch.setattr(compute, "AT_ONCE", 16)
    monkeypatch.setattr(merge_pass, "_BLOCK", 5)
    monkeypatch.setattr("hubmerge.ranges.spans.__defaults__", (16,))


@pytest.fixture(params=["linear", "ties", "linear, written by Python", "ties, written by Python"])
def plan(tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Plan:
    """A merge of three files whose kernels are compiled, since it was done once, into clean."""
    method, _, by = request.param.partition(", ")
    if by:
        monkeypatch.setattr(file_kernels, "file_kernel", lambda *_: None)
    folders = [write_model(tmp_path / "models" / name, {k: v * s for k, v in TENSORS.items()}, files={"tokenizer.json": "{}"})
               for name, s in (("a", 1), ("b", -2), ("base", 0.5))]  # fmt: skip
    base = folders[2] if method == "ties" else None
    asked = recipe(method, folders[:2], base=base, output={"shard_size": 1000})
    merge(asked, tmp_path / "clean", jobs=1)
    return build_plan(asked, jobs=1)


def killed(merging: Callable[[], object]) -> None:
    """Run `merging` in a process of its own, which is expected to be killed."""
    process = multiprocessing.get_context("fork").Process(target=merging)
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL


def die(*_: object, **__: object) -> Any:
    os.kill(os.getpid(), signal.SIGKILL)


def after(count: int, function: Callable[..., Any], then: Callable[..., Any] = die) -> Callable[..., Any]:
    """`function`, but call number `count` + 1 is `then`."""
    calls: list[int] = []

    def counted(*arguments: Any, **rest: Any) -> Any:
        calls.append(1)
        return function(*arguments, **rest) if len(calls) <= count else then(*arguments, **rest)

    return counted


def at_write(count: int) -> None:
    """Die at write number `count` + 1 of merged numbers, whichever way they go into the file."""
    calls: list[int] = []

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def one(*arguments: Any) -> Any:
            calls.append(1)
            return function(*arguments) if len(calls) <= count else die()

        return one

    of_files = merge_pass.pass_of_files

    def watched(*arguments: Any) -> Any:
        write = of_files(*arguments)
        return write and counted(write)

    merge_pass.pass_of_files = watched
    writer.OutputFolder.write = counted(writer.OutputFolder.write)  # type: ignore[method-assign]


def torn(self: journal.Journal, content: Any) -> None:
    """Half a line of the journal, and the end."""
    os.write(self._descriptor, journal.journal_line(content)[:9])
    die()


MOMENTS: dict[str, int | tuple[Any, str, Callable[[Callable[..., Any]], Callable[..., Any]]]] = {
    "before the journal": (journal.Journal, "__init__", lambda _: die),
    "before the headers": (writer.OutputFolder, "reserve", lambda _: die),
    "between two files' headers": (writer, "reserve", lambda f: after(1, f)),
    "before the first number": 0,
    "in the middle of a piece": 5,
    "after a piece, before its line": (journal.Journal, "add", lambda f: after(3, f)),
    "in the middle of a line": (journal.Journal, "_note", lambda f: after(4, f, torn)),
    "after many pieces": 25,
    "before the small files": (writer.OutputFolder, "write_file", lambda _: die),
    "before the carried files": (writer.OutputFolder, "copy_file", lambda _: die),
    "before the manifest": (carry_out, "manifest_of", lambda _: die),
    "before the renames": (writer.OutputFolder, "publish", lambda _: die),
    "with an older merge put aside": (Path, "rename", lambda f: after(1, f)),
    "before sweeping up": (writer, "sweep", lambda _: die),
}


def watch(monkeypatch: pytest.MonkeyPatch) -> list[Piece]:
    """The pieces that are computed from now on."""
    seen: list[Piece] = []
    computing = execute.compute

    def watched(step: Step, *arguments: Any) -> None:
        start, stop = (each for each in arguments if isinstance(each, int))
        seen.append((step.output.name, start, stop))  # type: ignore[arg-type]
        computing(step, *arguments)

    monkeypatch.setattr(execute, "compute", watched)
    return seen


def named(plan: Plan, pieces: Iterator[Piece]) -> list[tuple[str, int, int]]:
    return [(plan.steps[piece.step].output.name, piece.start, piece.stop) for piece in pieces]


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_merge_killed_at_any_stage_goes_on_with_any_jobs_and_ends_with_the_same_bytes(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    jobs = 1 if plan.method.name == "linear" else 3
    out = tmp_path / "out"
    merge(recipe("passthrough", [tmp_path / "models" / "a"]), out, jobs=1)
    when = MOMENTS[moment]

    def merging() -> None:
        if isinstance(when, int):
            at_write(when)
        else:
            place, name, change = when
            setattr(place, name, change(getattr(place, name)))
        merge_plan(plan, out, overwrite=True)

    killed(merging)
    done = read_journal(tmp_path / "out.partial" / JOURNAL_NAME).pieces
    computed = watch(monkeypatch)
    merge_plan(build_plan(plan.recipe, jobs=jobs), out, overwrite=True)
    expected = set(named(plan, execute.pieces(plan))) - set(named(plan, iter(done)))
    if moment == "before sweeping up":
        expected = set()
    assert sorted(computed) == sorted(expected)
    assert contents(out) == contents(tmp_path / "clean")
    assert names(tmp_path) == ["clean", "models", "out"]


def test_a_merge_killed_again_and_again_gets_on_every_time(plan: Plan, tmp_path: Path) -> None:
    chance, found, kills = random.Random(7), [0], 0
    path = tmp_path / "out.partial" / JOURNAL_NAME
    while len(read_journal(path).pieces) < len(list(execute.pieces(plan))):
        count = chance.randrange(1, 9)

        def merging(count: int = count) -> None:
            at_write(count)
            writer.OutputFolder.publish = die  # type: ignore[method-assign]
            merge_plan(plan, tmp_path / "out")

        killed(merging)
        kills += 1
        found.append(len(read_journal(path).pieces))
    assert kills > 5
    assert found == sorted(found)
    merge_plan(plan, tmp_path / "out")
    assert contents(tmp_path / "out") == contents(tmp_path / "clean")


@pytest.mark.parametrize("method", ["dare_ties", "ties"])
def test_random_numbers_and_what_was_measured_of_all_tensors_are_the_same_after_a_kill(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    folders = [
        write_model(tmp_path / name, {k: v * s for k, v in TENSORS.items()})
        for name, s in (("a", 1), ("b", -2), ("base", 0.5))
    ]
    rest = {"trim_scope": "model"} if method == "ties" else {}
    plan = build_plan(recipe(method, folders[:2], base=folders[2], density=0.4, **rest))
    merge_plan(plan, tmp_path / "clean")

    def merging() -> None:
        at_write(8)
        merge_plan(plan, tmp_path / "out")

    killed(merging)
    monkeypatch.setattr(weights, "pooled_states", lambda *_: pytest.fail("what was measured is in the journal"))
    merge_plan(plan, tmp_path / "out")
    assert contents(tmp_path / "out") == contents(tmp_path / "clean")


@pytest.fixture
def half_done(plan: Plan, tmp_path: Path) -> Path:
    """OUT.partial of a merge that was killed in its third file."""

    def merging() -> None:
        at_write(25)
        merge_plan(plan, tmp_path / "out")

    killed(merging)
    return tmp_path / "out.partial"


@pytest.mark.parametrize("harm", ["removed", "cut short", "made longer", "a link"])
def test_a_weight_file_that_was_touched_meanwhile_is_computed_again(
    plan: Plan, half_done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, harm: str
) -> None:
    path = half_done / min(plan.layout.sizes)
    if harm == "removed":
        path.unlink()
    elif harm == "a link":
        path.rename(tmp_path / "elsewhere")
        path.symlink_to(tmp_path / "elsewhere")
    else:
        os.truncate(path, path.stat().st_size + (1 if harm == "made longer" else -1))
    there = {piece for piece in read_journal(half_done / JOURNAL_NAME).pieces
             if plan.steps[piece.step].output.file != path.name}  # fmt: skip
    computed = watch(monkeypatch)
    merge_plan(plan, tmp_path / "out")
    assert sorted(computed) == sorted(set(named(plan, execute.pieces(plan))) - set(named(plan, iter(there))))
    assert contents(tmp_path / "out") == contents(tmp_path / "clean")


@pytest.mark.parametrize(
    ("harm", "why"),
    [
        ("another version", "hubmerge, Python, numpy, numba or torch has changed"),
        ("another parent", "a parent has changed"),
    ],
)
def test_what_other_versions_or_other_parents_made_is_not_used(
    plan: Plan, half_done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, harm: str, why: str
) -> None:
    path, notes = half_done / JOURNAL_NAME, []
    found = read_journal(path)
    assert found.identity is not None
    other = {"versions": {"numpy": "1.0"}} if harm == "another version" else {"samples": ["0", "1"]}
    journal.Journal(path, journal.Found({**found.identity, **other}, found.pieces), lambda: None)
    computed = watch(monkeypatch)
    merge_plan(plan, tmp_path / "out", note=notes.append)
    assert len(computed) == len(list(execute.pieces(plan)))
    assert notes == [f"what is in {half_done} is not used: {why} since it was made"]


def test_what_a_merge_left_stays_when_the_next_ends_before_it_can_go_on(
    plan: Plan, half_done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(half_done)
    monkeypatch.setattr(weights, "read_journal", die_softly)
    with pytest.raises(MergeInterrupted) as ended:
        merge_plan(plan, tmp_path / "out")
    assert str(ended.value) == f"interrupted: {half_done} is as it was; the same command goes on from there"
    assert contents(half_done) == before


def die_softly(*_: object) -> None:
    raise KeyboardInterrupt


def test_a_change_of_one_number_is_seen_though_no_sample_of_the_parent_has_it(tmp_path: Path) -> None:
    folders = [write_model(tmp_path / name, {"w": random_values((2000,), i)}) for i, name in enumerate("ab")]
    asked = recipe("linear", folders)
    plan, path = build_plan(asked, jobs=1), folders[1] / "model.safetensors"

    def merging() -> None:
        at_write(5)
        merge_plan(plan, tmp_path / "out")

    killed(merging)
    raw = bytearray(path.read_bytes())
    raw[-4 * 1900 + 1] ^= 1  # entry 100, which is merged already; the samples are entries 0 to 63, 645 to 708, ...
    path.write_bytes(raw)
    notes: list[str] = []
    merge_plan(build_plan(asked), tmp_path / "out", note=notes.append)
    merge(asked, tmp_path / "clean")
    assert notes == [f"what is in {tmp_path}/out.partial is not used: a parent has changed since it was made"]
    assert contents(tmp_path / "out") == contents(tmp_path / "clean")


def test_an_older_merge_that_a_kill_left_aside_is_out_again(plan: Plan, tmp_path: Path) -> None:
    out = tmp_path / "out"
    older = recipe("passthrough", [tmp_path / "models" / "a"])
    merge(older, out, jobs=1)
    before = contents(out)

    def merging() -> None:
        Path.rename = after(1, Path.rename)  # type: ignore[method-assign]
        merge_plan(plan, out, overwrite=True)

    killed(merging)
    assert not out.exists()
    with pytest.raises(PlanError, match="is a merge of another plan"):
        merge_plan(plan, out)
    assert contents(out) == before
    assert merge_plan(build_plan(older), out).already_done
    merge_plan(plan, out, overwrite=True)
    assert contents(out) == contents(tmp_path / "clean")
    assert names(tmp_path) == ["clean", "models", "out"]


def test_fresh_discards_what_the_same_merge_left(plan: Plan, half_done: Path, tmp_path: Path) -> None:
    assert half_done.is_dir()
    merged = merge_plan(plan, tmp_path / "out", fresh=True)
    assert merged.written is not None
    assert merged.written.found == 0
    assert contents(tmp_path / "out") == contents(tmp_path / "clean")


def test_without_positioned_reads_and_writes_it_goes_on_all_the_same(
    plan: Plan, half_done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert half_done.is_dir()
    for call in ("preadv", "pread", "pwrite", "posix_fallocate", "fdatasync", "sched_getaffinity"):
        monkeypatch.delattr(os, call)
    merged = merge_plan(plan, tmp_path / "out")
    assert merged.written is not None
    assert merged.written.found > 0
    assert contents(tmp_path / "out") == contents(tmp_path / "clean")
    assert read_model(tmp_path / "out").keys() == TENSORS.keys()
    assert not hasattr(input_files.os, "preadv")
