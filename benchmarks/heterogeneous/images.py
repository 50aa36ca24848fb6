"""Merges of image classifiers trained apart, beside their parents: `python -m benchmarks.heterogeneous.images`.

A table for each setting and kind of model, and one with what is to be reached.  Parents that are not in the cache are
trained first.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.heterogeneous.goals import judge
from benchmarks.heterogeneous.measuring import Job, measure
from benchmarks.heterogeneous.options import in_processes, parser
from benchmarks.heterogeneous.parents import train_parents
from benchmarks.heterogeneous.rows import rows
from benchmarks.heterogeneous.saving import add_lines, save_report
from benchmarks.heterogeneous.settings import MODELS, SETTINGS
from benchmarks.heterogeneous.tables import RESULTS, table

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure all settings that are asked for."""
    commands = parser(__doc__)
    names = tuple(dict.fromkeys(setting.name for setting in SETTINGS))
    commands.add_argument("--settings", nargs="+", choices=names, default=names)
    commands.add_argument("--model", nargs="+", choices=MODELS, default=MODELS)
    commands.add_argument(
        "--rows",
        nargs="+",
        default=(),
        metavar="KEY",
        help="measure these lines alone, and keep the others of the results",
    )
    commands.add_argument("--results", type=Path, default=RESULTS, help="folder for the JSON")
    given = commands.parse_args(arguments)
    settings = [setting for setting in SETTINGS if setting.name in given.settings and setting.model in given.model]
    wanted = dict.fromkeys(parent for setting in settings for parent in setting.parents)
    train_parents(given.cache, tuple(wanted), given.seeds, given.processes)
    for setting in settings:
        keys = tuple(row.key for row in rows(setting) if row.key in given.rows)
        if given.rows and not keys:
            continue
        jobs = [Job(given.cache, setting, seed, keys) for seed in given.seeds]
        found = {job.seed: measured for job, measured in in_processes(measure, jobs, given.processes)}
        report = table(setting, {seed: found[seed] for seed in given.seeds})
        if keys:
            add_lines("images", report, given.results, [row.key for row in rows(setting)])
        else:
            save_report("images", report, given.results)
    save_report("images", judge(given.results), given.results)


if __name__ == "__main__":
    main()
