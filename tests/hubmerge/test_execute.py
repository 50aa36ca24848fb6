"""Running a plan: every entry once, on any number of threads, and the first fault of the plan's order."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from zoo import random_values, recipe, write_model

from hubmerge import MergeError, build_plan, execute
from hubmerge.plan_types import Plan, Step


def a_plan(tmp_path: Path, method: str = "linear", **tensors: np.ndarray) -> Plan:
    folders = [write_model(tmp_path / name, tensors) for name in ("a", "b")]
    return build_plan(
        recipe(method, folders if method == "linear" else folders[1:], base=None if method == "linear" else folders[0])
    )


@pytest.mark.parametrize("jobs", [1, 2, 5])
@pytest.mark.parametrize("piece", [16, 48, 1 << 22])
@pytest.mark.parametrize("method", ["linear", "ties", "iso_c"])
def test_every_entry_is_handed_over_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, jobs: int, piece: int
) -> None:
    monkeypatch.setattr(execute, "_PIECE", piece)
    tensors = {"w": random_values((7, 31), 1), "b": random_values((5,), 2), "ids": np.arange(9), "e": np.zeros((0, 2))}
    plan = a_plan(tmp_path, method, **tensors)
    seen = {step.output.name: np.zeros(step.output.numel, int) for step in plan.steps}
    lock = threading.Lock()

    def sink(step: Step, first: int, entries: np.ndarray) -> None:
        with lock:
            seen[step.output.name][first : first + entries.size] += 1

    execute.execute(plan, sink, jobs=jobs)
    assert all((counts == 1).all() for counts in seen.values())


def order(plan: Plan) -> list[str]:
    return [plan.steps[piece.step].output.name for piece in execute.pieces(plan)]


def test_files_are_finished_one_after_the_other_and_within_a_window_the_largest_tensor_is_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tensors = {f"w{i}": np.zeros(size, "float32") for i, size in enumerate((1, 30, 2, 3, 40, 4))}
    folders = [write_model(tmp_path / name, tensors) for name in ("a", "b")]
    for method, base in (("linear", None), ("ties", folders[1])):
        plan = build_plan(recipe(method, folders[:1] if base else folders, base=base, output={"shard_size": 200}))
        assert [step.output.file[:11] for step in plan.steps] == ["model-00001"] * 4 + ["model-00002"] * 2
        monkeypatch.setattr(execute, "_WINDOW", 1 << 20)
        assert order(plan) == ["w4", "w1", "w5", "w3", "w2", "w0"]  # all of it is one window
        monkeypatch.setattr(execute, "_WINDOW", 124)
        large_first = ["w4", "w1", "w0", "w5", "w3", "w2"]  # ties cannot be cut: w4 is larger than a window
        in_order = ["w1", "w0", "w4", "w3", "w2", "w5"]
        assert order(plan) == (large_first if base else in_order)


def test_the_units_of_work_are_the_same_for_any_jobs_and_cover_every_entry_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(execute, "_PIECE", 10)
    tensors = {"w": random_values((7, 5), 1), "b": random_values((25,), 2), "none": np.zeros((0, 3), "float32")}
    plan = a_plan(tmp_path, **tensors)
    one, many = (tuple(execute.pieces(replace(plan, jobs=jobs))) for jobs in (1, 9))
    assert one == many
    spans = sorted(execute.piece_bytes(plan, piece) for piece in one)
    assert [stop for _, _, stop in spans[:-1]] == [start for _, start, _ in spans[1:]]
    assert spans[-1][2] == plan.layout.sizes["model.safetensors"]
    assert spans[0][1] == len(plan.layout.headers["model.safetensors"])


def test_progress_adds_up_to_the_bytes_of_all_tensors(tmp_path: Path) -> None:
    plan = a_plan(tmp_path, w=random_values((7, 31), 1), ids=np.arange(9))
    done: list[int] = []
    execute.execute(plan, lambda *_: None, progress=done.append)
    assert sum(done) == 7 * 31 * 4 + 9 * 8


def test_of_several_faults_the_first_of_the_plans_order_is_raised(tmp_path: Path) -> None:
    broken = {name: np.full(size, np.nan, "float32") for name, size in (("small", 2), ("large", 9), ("middle", 5))}
    plan = a_plan(tmp_path, **broken)
    with pytest.raises(MergeError, match=r"tensor 'large' of .*/a is not finite: entry 0 is nan"):
        execute.execute(plan, lambda *_: None, jobs=1)


def test_after_a_fault_no_further_tensor_is_computed(tmp_path: Path) -> None:
    tensors = {f"w{i}": np.ones(50 - i, "float32") for i in range(20)}
    plan = a_plan(tmp_path, **tensors)
    handed: list[str] = []

    def sink(step: Step, *_: Any) -> None:
        handed.append(step.output.name)
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        execute.execute(plan, sink, jobs=1)
    assert handed == ["w0"]
