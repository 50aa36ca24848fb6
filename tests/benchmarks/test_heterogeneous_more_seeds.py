"""What is to be reached over more seeds: which lines are measured, what is told of them, and how sure it is."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks.heterogeneous import more_seeds
from benchmarks.heterogeneous.goals import GOALS
from benchmarks.heterogeneous.measuring import Job, Measured
from benchmarks.heterogeneous.more_seeds import jackknifed
from benchmarks.heterogeneous.settings import MORE_SEEDS, RECIPES, SEEDS, Recipe


def test_of_a_mean_the_error_is_the_usual_one() -> None:
    numbers = [3.0, 5.0, 10.0, 4.0]
    value, error = jackknifed(lambda seeds: statistics.mean(numbers[seed] for seed in seeds), range(4))
    assert value == 5.5
    assert error == pytest.approx(statistics.stdev(numbers) / math.sqrt(4))


def test_one_seed_has_no_error() -> None:
    assert jackknifed(lambda seeds: float(seeds[0]), [7]) == (7.0, None)


def test_the_seeds_of_the_tables_are_among_them_and_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not set(SEEDS) & set(MORE_SEEDS)
    asked: list[tuple[str, int]] = []

    def measured(_work: object, jobs: Sequence[Job], _processes: int) -> Any:
        for job in jobs:
            asked.append((f"{job.setting.model}_{job.setting.name}", job.seed))
            own = {"mean": 50.0 + job.seed, "joint": 60.0, "MNIST": 40.0, "digits": 30.0, "0 to 4": 1.0, "5 to 9": None}
            low = dict.fromkeys(own, 10.0) | {"5 to 9": None}
            yield job, [Measured(key, key, low if key == "activations" else own, 1.0) for key in (*job.rows, "other")]

    monkeypatch.setattr(more_seeds, "in_processes", measured)
    monkeypatch.setattr(more_seeds, "train_parents", lambda *_: None)
    more_seeds.main(["--seeds", "4", "5", "6", "--results", str(tmp_path)])
    assert sorted(asked) == sorted({(goal.table, seed) for goal in GOALS for seed in (4, 5, 6)})
    content = json.loads((tmp_path / "more_seeds.json").read_text())
    assert content["columns"][3:5] == ["1 seed", "3 seeds"]
    assert len(content["rows"]) == len(GOALS)
    (row,) = [
        row
        for row in content["rows"]
        if row[:3] == ["resnet, domain", "gate", "PLeaS, parents' inputs, over permuting alone"]
    ]
    assert row[3:] == ["44.0", "45.0 ± 0.6", "≥ 15", "reached"]
    (line,) = [line for line in content["measurements"] if (line["table"], line["claim"]) == ("resnet_domain", row[2])]
    assert line["seeds"] == {"4": 44.0, "5": 45.0, "6": 46.0}


@pytest.mark.real
def test_the_command_trains_measures_and_judges(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def merge_models(models: list[Any], _batches: list[Any], **arguments: Any) -> SimpleNamespace:
        asked.append(arguments["align"])
        return SimpleNamespace(model=models[0])

    monkeypatch.setitem(RECIPES, ("vit", "small digits"), Recipe(epochs=1, rate=3e-3, batch=64, decay=0.05, shift=0))
    monkeypatch.setattr("hubmerge.heterogeneous.merge_models", merge_models, raising=False)
    folders = ["--cache", str(tmp_path / "cache"), "--results", str(tmp_path / "results")]
    more_seeds.main(["--tables", "vit_same", "--seeds", "0", "5", "--processes", "1", *folders])
    assert asked == ["activations"] * 4  # permuting alone and fitted, two seeds
    content = json.loads((tmp_path / "results" / "more_seeds.json").read_text())
    assert content["command"] == "python -m benchmarks.heterogeneous.more_seeds"
    assert [row[3:] for row in content["rows"]] == [["0.0", "0.0 ± 0.0", "≥ 14", "MISSED"]]
