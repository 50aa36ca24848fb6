"""The tables of merges of models trained apart, and the goals that are read from them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks.heterogeneous import images
from benchmarks.heterogeneous.goals import GOALS, judge
from benchmarks.heterogeneous.measuring import Measured
from benchmarks.heterogeneous.rows import rows
from benchmarks.heterogeneous.settings import RECIPES, SETTINGS, Recipe, Setting
from benchmarks.heterogeneous.tables import summary, table

TABLES = {f"{setting.model}_{setting.name}": setting for setting in SETTINGS}
CONTROLS = ("parent_0", "parent_1", "ensemble", "base_renormalised")


def lines(setting: Setting, value: float) -> Iterator[Measured]:
    """Every line of a table with one number in all places; the parents of disjoint tasks know one each."""
    tasks = [task.name for task in setting.tasks]
    names = [*tasks, "mean"] + ["joint"] * (setting.labels == "disjoint")
    for key in (*CONTROLS, *(row.key for row in rows(setting))):
        scores: dict[str, float | None] = dict.fromkeys(names, value)
        if setting.labels == "disjoint" and key.startswith("parent"):
            scores |= {tasks[1 - int(key[-1])]: None, "mean": None}
        yield Measured(key, key, scores, 1.0)


def test_a_table_shows_means_with_their_standard_errors_and_keeps_every_number() -> None:
    setting = TABLES["resnet_split"]
    first = {"0 to 4": 97.0, "5 to 9": 90.0, "mean": 93.5, "joint": 80.0}
    found = {
        3: [Measured("a", "one way", first, 1.0, 2.0), Measured("b", "a parent", {**first, "5 to 9": None}, 1.5)],
        5: [Measured("a", "one way", {**first, "0 to 4": 98.0}, 1.0, 4.0), Measured("b", "a parent", first, 1.5)],
    }
    report = table(setting, found)
    assert report.columns == ("method", "parameters", "0 to 4", "5 to 9", "mean", "joint", "seconds")
    assert report.rows[0] == ("one way", "1.00x", "97.5 ± 0.5", "90.0 ± 0.0", "93.5 ± 0.0", "80.0 ± 0.0", "3.0")
    assert report.rows[1] == ("a parent", "1.50x", "97.0 ± 0.0", "90.0", "93.5 ± 0.0", "80.0 ± 0.0", "-")
    measured = report.measurements[0]
    assert (measured["key"], measured["seconds"]) == ("a", [2.0, 4.0])
    assert {seed: scores["0 to 4"] for seed, scores in measured["seeds"].items()} == {"3": 97, "5": 98}
    assert measured["mean"]["0 to 4"] == 97.5
    assert report.options["seeds"] == [3, 5]


def test_a_standard_error_is_the_deviation_over_the_root_of_the_number() -> None:
    assert summary([97.0, 98.0, 99.0]) == "98.0 ± 0.6"  # 1 / sqrt(3)
    assert summary([None, None]) == "-"


@pytest.mark.parametrize("name", TABLES)
def test_no_two_lines_of_a_table_are_called_the_same(name: str) -> None:
    measured = rows(TABLES[name])
    assert len({row.key for row in measured} | set(CONTROLS)) == len(measured) + len(CONTROLS)
    assert len({row.label for row in measured}) == len(measured)
    assert len({(str(row.arguments), row.calibration, row.images) for row in measured}) == len(measured)


def test_every_goal_is_read_from_lines_that_there_are(tmp_path: Path) -> None:
    for setting in SETTINGS:
        table(setting, {0: list(lines(setting, 50.0))}).save(tmp_path)
    report = judge(tmp_path)
    assert len(report.rows) == len(GOALS)
    differences = [goal for goal, row in zip(GOALS, report.measurements, strict=True) if row["value"] == 0]
    assert {goal.claim for goal in GOALS} - {goal.claim for goal in differences} == {
        "PLeaS, merged inputs",
        "PLeaS, parents' inputs",
        "PLeaS, merged inputs, joint",
        "the default, joint",
        "where the average has, joint",
    }


def write_table(folder: Path, name: str, means: dict[str, dict[str, float | None]]) -> None:
    measurements = [{"key": key, "mean": mean} for key, mean in means.items()]
    content = {"measurements": measurements, "options": {"seeds": [0, 1]}}
    (folder / f"{name}.json").write_text(json.dumps(content))


def test_goals_are_held_against_means(tmp_path: Path) -> None:
    write_table(
        tmp_path,
        "vit_split",
        {
            "average": {"mean": 31.0, "joint": 20.5},
            "activations": {"mean": 60.0, "joint": 41.0},
            "pleas_merged": {"mean": 74.5, "joint": 70.0},
            "turned_merged": {"mean": 75.5, "joint": 78.0},
            "turned_auto": {"mean": 75.0, "joint": 77.5},
        },
    )
    assert judge(tmp_path).rows == [
        ("vit, split", "promise", "PLeaS, merged inputs, joint", "2", "78.0", "≥ 78", "reached"),
        ("vit, split", "promise", "the default, joint", "2", "77.5", "≥ 78", "MISSED"),
        ("vit, split", "promise", "where the average has, joint", "2", "20.5", "≤ 20", "MISSED"),
        ("vit, split", "gate", "PLeaS, merged inputs, over permuting alone", "2", "14.5", "≥ 14", "reached"),
    ]


def test_the_worst_task_counts_and_a_parent_only_on_what_it_knows(tmp_path: Path) -> None:
    means: dict[str, dict[str, float | None]] = {
        measured.key: dict(measured.scores) for measured in lines(TABLES["resnet_split"], 90.0)
    }
    means["ensemble"] |= {"0 to 4": 99.0, "5 to 9": 96.0}
    means["pleas_merged"] |= {"0 to 4": 96.5, "5 to 9": 91.0}
    means["parent_1"] |= {"5 to 9": 98.0}
    means["separate"] |= {"0 to 4": 90.0, "5 to 9": 97.0}
    write_table(tmp_path, "resnet_split", means)
    found = {row["claim"]: row["value"] for row in judge(tmp_path).measurements}
    assert found["PLeaS, merged inputs, below the ensemble on either task"] == 5  # 96 - 91
    assert found["all separate, below the parent on either task"] == 1  # 98 - 97


@pytest.mark.real
def test_the_command_trains_merges_scores_and_judges(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def merge_models(models: list[Any], batches: list[Any], **arguments: Any) -> SimpleNamespace:
        asked.append((len(models), sum(len(batch["pixel_values"]) for batch in batches), arguments))
        return SimpleNamespace(model=models[1])

    recipe = Recipe(epochs=1, rate=3e-3, batch=64, decay=0.05, shift=0)
    monkeypatch.setitem(RECIPES, ("vit", "small digits"), recipe)
    monkeypatch.setattr("hubmerge.heterogeneous.merge_models", merge_models, raising=False)
    folders = ["--cache", str(tmp_path / "cache"), "--results", str(tmp_path / "results")]
    images.main(["--model", "vit", "--settings", "same", "--seeds", "0", "4", "--processes", "1", *folders])
    content = json.loads((tmp_path / "results" / "vit_same.json").read_text())
    assert content["command"] == "python -m benchmarks.heterogeneous.images"
    assert {"torch", "transformers", "scipy", "numpy"} <= content["versions"].keys()
    keys = ["parent_0", "parent_1", "ensemble", *(row.key for row in rows(TABLES["vit_same"]))]
    assert [measured["key"] for measured in content["measurements"]] == keys
    scores = {measured["key"]: measured["seeds"] for measured in content["measurements"]}
    assert scores["average"] == scores["parent_1"] != scores["parent_0"]
    assert set(scores["average"]) == {"0", "4"}
    models, calibrated, arguments = asked[0]
    assert (models, calibrated) == (2, 600)
    assert arguments == {
        "align": "identity", "widths": "base", "fit": None, "renormalise": True, "residual": "keep", "labels": "shared", "seed": 0,
    }  # fmt: skip
    goals = json.loads((tmp_path / "results" / "goals.json").read_text())
    assert [row[-1] for row in goals["rows"]] == ["MISSED"]  # it gains nothing over permuting alone
