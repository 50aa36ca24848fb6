"""What is to be reached, over twenty seeds: `python -m benchmarks.heterogeneous.more_seeds`.

The lines that a goal is read from, and no others, with the seeds of the tables and fifteen more.  A difference that
five seeds know to several points has a standard error here that is half as large.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from benchmarks.engine.report import Report, verdict
from benchmarks.heterogeneous.goals import GOALS, Goal, Means
from benchmarks.heterogeneous.measuring import Job, Measured, measure
from benchmarks.heterogeneous.options import in_processes, parser
from benchmarks.heterogeneous.parents import train_parents
from benchmarks.heterogeneous.saving import save_report
from benchmarks.heterogeneous.settings import MORE_SEEDS, SEEDS, SETTINGS, Setting
from benchmarks.heterogeneous.tables import RESULTS, beside_error, mean_of

__all__ = ["jackknifed", "main"]

Scores = Mapping[str, Mapping[str, float | None]]
"""Row -> column -> one seed's accuracy."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Train the parents that are missing, measure what goals are read from, and judge."""
    commands = parser(__doc__)
    commands.set_defaults(seeds=[*SEEDS, *MORE_SEEDS])
    tables = tuple(dict.fromkeys(goal.table for goal in GOALS))
    commands.add_argument("--tables", nargs="+", choices=tables, default=tables, help="which goals, by their table")
    commands.add_argument("--results", type=Path, default=RESULTS, help="folder for the JSON")
    given = commands.parse_args(arguments)
    goals = [goal for goal in GOALS if goal.table in given.tables]
    settings = {f"{setting.model}_{setting.name}": setting for setting in SETTINGS}
    wanted = dict.fromkeys(parent for goal in goals for parent in settings[goal.table].parents)
    train_parents(given.cache, tuple(wanted), given.seeds, given.processes)
    found: dict[str, dict[int, Scores]] = {}
    for table in dict.fromkeys(goal.table for goal in goals):
        rows = tuple(dict.fromkeys(row for goal in goals if goal.table == table for row in goal.value.rows))
        found[table] = _scores(given.cache, settings[table], given.seeds, rows, given.processes)
    save_report("more_seeds", _judged(goals, given.seeds, found), given.results)


def _scores(
    cache: Path, setting: Setting, seeds: Sequence[int], rows: tuple[str, ...], processes: int
) -> dict[int, Scores]:
    """Seed -> the lines of these keys."""
    jobs = [Job(cache, setting, seed, rows) for seed in seeds]
    found: dict[int, Sequence[Measured]] = {job.seed: lines for job, lines in in_processes(measure, jobs, processes)}
    return {seed: {line.key: line.scores for line in found[seed] if line.key in rows} for seed in seeds}


def _judged(goals: Sequence[Goal], seeds: Sequence[int], found: Mapping[str, Mapping[int, Scores]]) -> Report:
    few = [seed for seed in seeds if seed in SEEDS]
    report = Report(
        "more_seeds",
        f"The same over {len(seeds)} seeds",
        f"Every goal with the {len(few)} seeds of the tables and {len(seeds) - len(few)} more that were fixed before they were "
        "measured; ± standard error (jackknife over seeds).",
        ("table", "", "what", _counted(few), _counted(seeds), "to reach", ""),
        {"seeds": list(seeds)},
    )
    for goal in goals:
        lines = found[goal.table]
        of = _value_over(goal, lines)
        value, error = jackknifed(of, seeds)
        cells = verdict(value, goal.target, at_least=goal.at_least)
        told = (beside_error(*jackknifed(of, few)) if few else "-", beside_error(value, error))
        report.add(
            (goal.table.replace("_", ", "), goal.kind, goal.claim, *told, *cells),
            table=goal.table,
            kind=goal.kind,
            claim=goal.claim,
            value=value,
            standard_error=error,
            target=goal.target,
            seeds={str(seed): of([seed]) for seed in seeds},
        )
    return report


def _value_over(goal: Goal, lines: Mapping[int, Scores]) -> Callable[[Sequence[int]], float]:
    """The goal's value, of the means over some seeds."""
    return lambda seeds: goal.value.of(_means([lines[seed] for seed in seeds], goal.value.rows))


def _means(scores: Sequence[Scores], rows: Sequence[str]) -> Means:
    """Row -> column -> mean; columns that a row does not have are left out."""
    return {
        row: {
            column: mean
            for column in scores[0][row]
            if (mean := mean_of([each[row][column] for each in scores])) is not None
        }
        for row in rows
    }


def jackknifed(of: Callable[[Sequence[int]], float], seeds: Sequence[int]) -> tuple[float, float | None]:
    """A value of all seeds and its standard error, from the values without each one in turn; None for a single seed.

    Of a mean it is the usual standard error.
    """
    value = of(seeds)
    if len(seeds) == 1:
        return value, None
    without = [of([other for other in seeds if other != seed]) for seed in seeds]
    centre = statistics.mean(without)
    return value, math.sqrt((len(seeds) - 1) / len(seeds) * sum((each - centre) ** 2 for each in without))


def _counted(seeds: Sequence[int]) -> str:
    return f"{len(seeds)} seed{'s' * (len(seeds) != 1)}"


if __name__ == "__main__":
    main()
