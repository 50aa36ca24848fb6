"""The demo's last word: numbers from results.json, and never more praise than they carry."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubmerge.demo.summary import Row, Score, read_rows, verdict


def _row(name: str, *values: float, stderr: float = 0.01) -> Row:
    return Row(name, tuple(Score(value, stderr) for value in values), 1000, None)


def test_the_average_of_two_tasks_and_its_standard_error_by_hand() -> None:
    row = Row("merged", (Score(0.9, 0.03), Score(0.8, 0.04)), 1000, None)
    assert row.average.value == pytest.approx(0.85)
    assert row.average.stderr == pytest.approx(0.025)  # sqrt(.03^2 + .04^2) / 2 = .05 / 2
    assert str(row.average) == "0.850 ± 0.025"


def test_a_gain_within_two_standard_errors_is_not_called_proven_and_a_loss_is_called_a_loss() -> None:
    parents = [_row("weak", 0.5, 0.5), _row("strong", 0.8, 0.8)]
    merges = [_row("far", 0.9, 0.9), _row("near", 0.81, 0.81), _row("equal", 0.8, 0.8), _row("worse", 0.7, 0.8)]
    # every average has a standard error of .01 / sqrt(2) = .00707, every difference one of .01
    assert verdict(parents, merges).splitlines() == [
        "best parent: strong, average 0.800 ± 0.007",
        "far: +0.100 ± 0.010, clearly better",
        "near: +0.010 ± 0.010, better, but within two standard errors: this run does not prove it",
        "equal: +0.000 ± 0.010, merging did not help here",
        "worse: -0.050 ± 0.010, merging did not help here",
    ]


def test_what_is_no_parent_is_called_by_its_own_name() -> None:
    lines = verdict([_row("base", 0.9, 0.9)], [_row("far", 0.8, 0.8)], against="without any merging").splitlines()
    assert lines == [
        "without any merging: base, average 0.900 ± 0.007",
        "far: -0.100 ± 0.010, merging did not help here",
    ]


@given(parent=st.floats(0, 1), merged=st.floats(0, 1), spread=st.floats(1e-6, 0.5))
def test_praise_needs_a_gain(parent: float, merged: float, spread: float) -> None:
    word = verdict([_row("parent", parent, stderr=spread)], [_row("merged", merged, stderr=spread)])
    assert ("merging did not help here" in word) == (merged <= parent)
    assert not ("clearly better" in word and merged - parent < spread)


def test_rows_are_read_in_order_with_the_seconds_of_the_merges(tmp_path: Path) -> None:
    def model(name: str, *values: float) -> dict[str, object]:
        tasks = [
            {"name": f"task-{number}", "metric": "accuracy", "value": value, "stderr": 0.01, "n": 100}
            for number, value in enumerate(values)
        ]
        return {"model": f"./{name}", "name": name, "parameters": 10, "size_bytes": 52, "seconds": 0.1, "tasks": tasks}

    file = tmp_path / "results.json"
    file.write_text(json.dumps({"models": [model("base", 0.5, 0.25), model("ties", 0.75, 1.0)]}))
    tasks, rows = read_rows(file, {"ties": 1.5})
    assert tasks == ("task-0", "task-1")
    assert rows == (
        Row("base", (Score(0.5, 0.01), Score(0.25, 0.01)), 52, None),
        Row("ties", (Score(0.75, 0.01), Score(1.0, 0.01)), 52, 1.5),
    )
