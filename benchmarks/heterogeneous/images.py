"""Merges of image classifiers trained apart, beside their parents: `python -m benchmarks.heterogeneous.images`.

A table for each setting and kind of model, and one with what is to be reached.  Parents that are not in the cache are
trained first.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks.engine.report import Report
from benchmarks.heterogeneous.goals import judge
from benchmarks.heterogeneous.measuring import Job, Measured, measure
from benchmarks.heterogeneous.options import in_processes, parser
from benchmarks.heterogeneous.parents import train_parents
from benchmarks.heterogeneous.saving import save_report
from benchmarks.heterogeneous.settings import CALIBRATION, MODELS, SETTINGS, Setting

__all__ = ["main", "summary", "table"]

RESULTS = Path(__file__).parent / "results"

_TITLES = {
    "same": "Both trained on the same images",
    "domain": "Each trained on other images of the same ten digits",
    "split": "Each trained on half of the digits",
    "wider": "A wider donor, trained on other images",
    "narrower": "A narrower donor, trained on other images",
    "calibration": "Fewer calibration images",
    "proxy": "Each trained on half of the digits, calibrated on other data",
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure all settings that are asked for."""
    commands = parser(__doc__)
    names = tuple(dict.fromkeys(setting.name for setting in SETTINGS))
    commands.add_argument("--settings", nargs="+", choices=names, default=names)
    commands.add_argument("--model", nargs="+", choices=MODELS, default=MODELS)
    commands.add_argument("--results", type=Path, default=RESULTS, help="folder for the JSON")
    given = commands.parse_args(arguments)
    settings = [setting for setting in SETTINGS if setting.name in given.settings and setting.model in given.model]
    wanted = dict.fromkeys(parent for setting in settings for parent in setting.parents)
    train_parents(given.cache, tuple(wanted), given.seeds, given.processes)
    for setting in settings:
        jobs = [Job(given.cache, setting, seed) for seed in given.seeds]
        found = {job.seed: measured for job, measured in in_processes(measure, jobs, given.processes)}
        save_report("images", table(setting, {seed: found[seed] for seed in given.seeds}), given.results)
    save_report("images", judge(given.results), given.results)


def table(setting: Setting, found: Mapping[int, Sequence[Measured]]) -> Report:
    """The table of a setting; found: seed -> its lines, the same for every seed."""
    columns = [task.name for task in setting.tasks]
    columns += ["mean"] * (len(columns) > 1) + ["joint"] * (setting.labels == "disjoint")
    report = Report(
        f"{setting.model}_{setting.name}",
        f"{'ResNet' if setting.model == 'resnet' else 'ViT'}: {_TITLES[setting.name][0].lower()}{_TITLES[setting.name][1:]}",
        _explanation(setting, len(found)),
        ("method", "parameters", *columns, "seconds"),
        {"seeds": list(found), "setting": asdict(setting)},
    )
    for lines in zip(*found.values(), strict=True):
        first = lines[0]
        values = {name: [line.scores[name] for line in lines] for name in first.scores}
        seconds = [line.seconds for line in lines if line.seconds is not None]
        size = statistics.mean(line.size for line in lines)
        cells = (summary(values[name]) for name in columns)
        row = (first.label, f"{size:.2f}x", *cells, f"{statistics.mean(seconds):.1f}" if seconds else "-")
        report.add(
            row,
            key=first.key,
            seeds={
                str(seed): values_of for seed, values_of in zip(found, (line.scores for line in lines), strict=True)
            },
            mean={name: _mean(each) for name, each in values.items()},
            standard_error={name: _standard_error(each) for name, each in values.items()},
            size=[line.size for line in lines],
            seconds=seconds,
        )
    return report


def summary(values: Sequence[float | None]) -> str:
    """Mean and standard error over seeds, "97.5 ± 0.3"; "-" where nothing could be measured."""
    mean, error = _mean(values), _standard_error(values)
    if mean is None:
        return "-"
    return f"{mean:.1f}" if error is None else f"{mean:.1f} ± {error:.1f}"


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.mean(known) if known else None


def _standard_error(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.stdev(known) / math.sqrt(len(known)) if len(known) > 1 else None


def _explanation(setting: Setting, seeds: int) -> str:
    base, donor = (parent.name for parent in setting.parents)
    tasks = "the task known" if setting.labels == "disjoint" else "all ten digits possible"
    joint = "; joint: over all ten digits, the task unknown" if setting.labels == "disjoint" else ""
    images = (
        "" if setting.name == "calibration" else f" {CALIBRATION} training images without labels to calibrate with."
    )
    return (
        f"Parents {base} (the base) and {donor}, trained from different random weights. Per cent of held-out images, "
        f"{tasks}{joint}; mean ± standard error over {seeds} seeds, which differ in everything.{images} "
        "BatchNorm's statistics are estimated anew unless it says so. Parameters are over the base's."
    )


if __name__ == "__main__":
    main()
