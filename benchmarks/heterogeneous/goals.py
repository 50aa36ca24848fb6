"""What merges of models trained apart are to reach, set before they were measured, and whether they do.

A promise is what the documentation may say; a gate is about half of what an independent implementation showed on two
seeds, and tells a broken method from a working one.  All are of means over seeds, in percentage points.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.engine.report import Report, verdict
from benchmarks.heterogeneous.settings import CALIBRATION_SIZES

__all__ = ["GOALS", "Goal", "Means", "Value", "judge"]

Means = Mapping[str, Mapping[str, float]]
"""Row -> column -> mean over seeds."""


@dataclass(frozen=True)
class Value:
    """A number that is read from a table.  rows: those that it takes."""

    rows: tuple[str, ...]
    of: Callable[[Means], float]


@dataclass(frozen=True)
class Goal:
    """table: the result it is read from.  value: what is held against `target`."""

    table: str
    kind: str
    claim: str
    value: Value
    target: float
    at_least: bool = True


def _at(row: str, column: str) -> Value:
    return Value((row,), lambda means: means[row][column])


def _over(row: str, other: str) -> Value:
    """By how much a row's mean over tasks is above another's."""
    return Value((row, other), lambda means: means[row]["mean"] - means[other]["mean"])


def _furthest_below(row: str, others: tuple[str, ...]) -> Value:
    """The most by which a row is below the best that any of `others` has on a task; tasks that nobody knows are left out."""

    def value(means: Means) -> float:
        tasks = means[row].keys() - {"mean", "joint"}
        return max(
            max(means[other][task] for other in others if task in means[other]) - means[row][task] for task in tasks
        )

    return Value((row, *others), value)


def _smallest_lead() -> Value:
    """By how much the default is ahead of the better of the two forms, where it is least so."""

    def value(means: Means) -> float:
        return min(
            means[f"auto_{size}"]["mean"] - max(means[f"{form}_{size}"]["mean"] for form in ("parents", "merged"))
            for size in CALIBRATION_SIZES
        )

    return Value(tuple(f"{form}_{size}" for size in CALIBRATION_SIZES for form in ("parents", "merged", "auto")), value)


def _goals() -> tuple[Goal, ...]:
    promises = [
        Goal("resnet_same", "promise", "PLeaS, merged inputs", _at("pleas_merged", "mean"), 96),
        Goal("resnet_same", "promise", "PLeaS, parents' inputs", _at("pleas_parents", "mean"), 94),
        Goal("resnet_split", "promise", "PLeaS, merged inputs, joint", _at("pleas_merged", "joint"), 89),
        Goal(
            "resnet_split",
            "promise",
            "PLeaS, merged inputs, below the ensemble on either task",
            _furthest_below("pleas_merged", ("ensemble",)),
            4,
            at_least=False,
        ),
        Goal(
            "resnet_domain",
            "promise",
            "PLeaS, merged inputs, below the ensemble",
            _over("ensemble", "pleas_merged"),
            12,
            at_least=False,
        ),
        Goal("vit_split", "promise", "PLeaS, merged inputs, joint", _at("turned_merged", "joint"), 78),
        Goal(
            "resnet_domain",
            "promise",
            "the default, below the ensemble",
            _over("ensemble", "pleas_auto"),
            2,
            at_least=False,
        ),
        Goal("resnet_split", "promise", "the default, joint", _at("pleas_auto", "joint"), 89),
        Goal("vit_split", "promise", "the default, joint", _at("turned_auto", "joint"), 78),
        Goal(
            "resnet_calibration", "promise", "the default over the better of both forms, at least", _smallest_lead(), 0
        ),
        Goal("vit_split", "promise", "where the average has, joint", _at("average", "joint"), 20, at_least=False),
    ]
    gates = []
    for setting, parents, merged in (("same", 3, 4), ("domain", 15, 20), ("split", 8, 10)):
        table = f"resnet_{setting}"
        gates += [
            Goal(table, "gate", "permuted by activations over the average", _over("activations", "average"), 20),
            Goal(
                table,
                "gate",
                "PLeaS, parents' inputs, over permuting alone",
                _over("pleas_parents", "activations"),
                parents,
            ),
            Goal(
                table,
                "gate",
                "PLeaS, merged inputs, over permuting alone",
                _over("pleas_merged", "activations"),
                merged,
            ),
            Goal(
                table,
                "gate",
                "PLeaS, parents' inputs, over the same not permuted",
                _over("pleas_parents", "average_parents"),
                4,
            ),
            Goal(
                table,
                "gate",
                "PLeaS, merged inputs, below the ensemble",
                _over("ensemble", "pleas_merged"),
                15 if setting == "domain" else 4,
                at_least=False,
            ),
            Goal(table, "gate", "1.2x over 1x, parents' inputs", _over("pleas_1.2_parents", "pleas_parents"), -1.5),
        ]
    gates += [
        Goal("resnet_domain", "gate", "1.5x over 1x, parents' inputs", _over("pleas_1.5_parents", "pleas_parents"), 3),
        Goal(
            "resnet_split",
            "gate",
            "all separate, below the parent on either task",
            _furthest_below("separate", ("parent_0", "parent_1")),
            1.5,
            at_least=False,
        ),
        Goal(
            "vit_same", "gate", "PLeaS, merged inputs, over permuting alone", _over("pleas_merged", "activations"), 14
        ),
        Goal(
            "vit_split", "gate", "PLeaS, merged inputs, over permuting alone", _over("pleas_merged", "activations"), 14
        ),
    ]
    return (*promises, *gates)


GOALS = _goals()


def judge(results: Path) -> Report:
    """Every goal whose table is in `results`, as a table of its own."""
    report = Report(
        "goals",
        "What is to be reached",
        "Promises, and gates that tell a broken method from a working one; percentage points of accuracy, means over seeds.",
        ("table", "", "what", "seeds", "measured", "to reach", ""),
        {},
    )
    tables = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(results.glob("*.json"))}
    for goal in GOALS:
        if goal.table in tables:
            measurements = tables[goal.table]["measurements"]
            means = {
                line["key"]: {name: value for name, value in line["mean"].items() if value is not None}
                for line in measurements
            }
            value, seeds = goal.value.of(means), len(tables[goal.table]["options"]["seeds"])
            cells = verdict(value, goal.target, at_least=goal.at_least)
            row = (goal.table.replace("_", ", "), goal.kind, goal.claim, seeds, f"{value:.1f}", *cells)
            report.add(row, table=goal.table, kind=goal.kind, claim=goal.claim, value=value, target=goal.target)
    return report
