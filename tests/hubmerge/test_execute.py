"""Running a plan: every entry once, on any number of threads, and the first fault of the plan's order."""

from __future__ import annotations

import threading
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
