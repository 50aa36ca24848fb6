"""Lines that are measured later come into the table that is there, which keeps its own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from benchmarks.engine.report import Report
from benchmarks.heterogeneous.saving import add_lines, save_report


def report(lines: Mapping[str, float], seeds: tuple[int, ...] = (0, 1)) -> Report:
    found = Report("toy", "Toy", "", ("method", "mean"), {"seeds": list(seeds)})
    for key, value in lines.items():
        found.add((key, value), key=key, mean=value)
    return found


def saved(folder: Path) -> Any:
    return json.loads((folder / "toy.json").read_text(encoding="utf-8"))


def test_new_lines_stand_in_the_order_of_the_table_and_say_when_they_were_measured(tmp_path: Path) -> None:
    save_report("images", report({"parent": 9.0, "a": 1.0, "c": 3.0}), tmp_path)
    before = saved(tmp_path)
    add_lines("images", report({"b": 2.0, "c": 4.0}), tmp_path, ["a", "b", "c"])
    after = saved(tmp_path)
    assert [(line["key"], line["mean"]) for line in after["measurements"]] == [
        ("parent", 9),
        ("a", 1),
        ("b", 2),
        ("c", 4),
    ]
    assert [row[0] for row in after["rows"]] == ["parent", "a", "b", "c"]
    assert {what: after[what] for what in ("date", "commit", "command")} == {
        what: before[what] for what in ("date", "commit", "command")
    }
    (added,) = after["added"]
    assert added["lines"] == ["b", "c"]
    assert {"torch", "scipy"} <= added["versions"].keys()


def test_lines_of_other_seeds_are_not_added(tmp_path: Path) -> None:
    save_report("images", report({"a": 1.0}), tmp_path)
    before = saved(tmp_path)
    with pytest.raises(
        ValueError, match=r"toy\.json holds lines of other seeds or another setting: measure all of it$"
    ):
        add_lines("images", report({"b": 2.0}, seeds=(0,)), tmp_path, ["a", "b"])
    assert saved(tmp_path) == before


def test_a_field_that_settings_came_to_have_later_and_leave_empty_changes_nothing(tmp_path: Path) -> None:
    first, later = report({"a": 1.0}), report({"b": 2.0})
    first.options = {"parents": [{"width": 16}]}
    later.options = {"parents": [{"width": 16, "depths": []}]}
    save_report("images", first, tmp_path)
    add_lines("images", later, tmp_path, ["a", "b"])
    assert [row[0] for row in saved(tmp_path)["rows"]] == ["a", "b"]
    later.options = {"parents": [{"width": 16, "depths": [2]}]}
    with pytest.raises(ValueError, match="another setting"):
        add_lines("images", later, tmp_path, ["a", "b"])
