"""Merges of text classifiers trained apart, beside their parents: `python -m benchmarks.heterogeneous.texts`.

A table for each setting.  Parents that are not in the cache are trained first.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.heterogeneous.measuring import Job, measure
from benchmarks.heterogeneous.options import in_processes, parser
from benchmarks.heterogeneous.parents import train_parents
from benchmarks.heterogeneous.saving import save_report
from benchmarks.heterogeneous.tables import RESULTS, table
from benchmarks.heterogeneous.text_settings import TEXT_SETTINGS

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure all settings that are asked for."""
    commands = parser(__doc__)
    names = tuple(setting.name for setting in TEXT_SETTINGS)
    commands.add_argument("--settings", nargs="+", choices=names, default=names)
    commands.add_argument("--results", type=Path, default=RESULTS, help="folder for the JSON")
    given = commands.parse_args(arguments)
    settings = [setting for setting in TEXT_SETTINGS if setting.name in given.settings]
    wanted = dict.fromkeys(parent for setting in settings for parent in setting.parents)
    train_parents(given.cache, tuple(wanted), given.seeds, given.processes)
    for setting in settings:
        jobs = [Job(given.cache, setting, seed) for seed in given.seeds]
        found = {job.seed: measured for job, measured in in_processes(measure, jobs, given.processes)}
        save_report("texts", table(setting, {seed: found[seed] for seed in given.seeds}), given.results)


if __name__ == "__main__":
    main()
