"""results.json and the merges' seconds -> the closing table, and whether merging helped, in words."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Row", "Score", "read_rows", "verdict"]


@dataclass(frozen=True)
class Score:
    """An accuracy between 0 and 1 and its standard error."""

    value: float
    stderr: float

    def __str__(self) -> str:
        return f"{self.value:.3f} ± {self.stderr:.3f}"


@dataclass(frozen=True)
class Row:
    """One model in the closing table; scores: one per task, in the suite's order."""

    name: str
    scores: tuple[Score, ...]
    size_bytes: int
    merge_seconds: float | None

    @property
    def average(self) -> Score:
        """The mean over tasks; its standard error takes the tasks' pictures as independent, which they are."""
        count = len(self.scores)
        spread = math.sqrt(sum(score.stderr**2 for score in self.scores)) / count
        return Score(sum(score.value for score in self.scores) / count, spread)


def read_rows(results: Path, merge_seconds: Mapping[str, float]) -> tuple[tuple[str, ...], tuple[Row, ...]]:
    """The tasks' names, and one `Row` per model of a results.json, in its order.

    merge_seconds: name of a merged model -> seconds its merge took; the other models get None.
    """
    models = json.loads(results.read_text(encoding="utf-8"))["models"]
    rows = tuple(
        Row(
            name=model["name"],
            scores=tuple(Score(task["value"], task["stderr"]) for task in model["tasks"]),
            size_bytes=model["size_bytes"],
            merge_seconds=merge_seconds.get(model["name"]),
        )
        for model in models
    )
    return tuple(task["name"] for task in models[0]["tasks"]), rows


def verdict(parents: Sequence[Row], merges: Sequence[Row], against: str = "best parent") -> str:
    """Whether the merges average higher than the best parent, and by more than two standard errors of the difference.

    against: what the best of `parents` is called, where they are others than parents.

    All models see the same pictures, so the true standard error of a difference is smaller than the one used here,
    which takes the two scores as independent: "clearly" is said too rarely rather than too often.
    """
    best = max(parents, key=lambda row: row.average.value)
    lines = [f"{against}: {best.name}, average {best.average}"]
    for row in merges:
        gain = row.average.value - best.average.value
        noise = math.hypot(row.average.stderr, best.average.stderr)
        if gain > 2 * noise:
            how = "clearly better"
        elif gain > 0:
            how = "better, but within two standard errors: this run does not prove it"
        else:
            how = "merging did not help here"
        lines.append(f"{row.name}: {gain:+.3f} ± {noise:.3f}, {how}")
    return "\n".join(lines)
