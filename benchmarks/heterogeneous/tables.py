"""What was measured in a setting as a table: means over seeds with their standard errors, and every number."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Literal

from benchmarks.engine.report import Report
from benchmarks.heterogeneous.measuring import Measured
from benchmarks.heterogeneous.settings import CALIBRATION, Model, Setting

__all__ = ["RESULTS", "beside_error", "mean_of", "standard_error_of", "summary", "table"]

RESULTS = Path(__file__).parent / "results"

_FAMILIES: Mapping[Model, str] = {"resnet": "ResNet", "vit": "ViT", "bert": "BERT"}

_IMAGE_TITLES = {
    "same": "both trained on the same images",
    "domain": "each trained on other images of the same ten digits",
    "split": "each trained on half of the digits",
    "wider": "a wider donor, trained on other images",
    "narrower": "a narrower donor, trained on other images",
    "calibration": "fewer calibration images",
    "deeper": "a donor of more blocks",
    "shallower": "a donor of fewer blocks",
    "regmean": "RegMean, each trained on other images of the same ten digits",
    "regmean_split": "RegMean, each trained on half of the digits",
    "proxy": "each trained on half of the digits, calibrated on other data",
}
_TEXT_TITLES = {
    "same": "both trained on the same code",
    "domain": "one trained on code, one on prose, of the same eight packages",
    "split": "each trained on half of the packages",
    "wider": "a donor with wider feed-forward layers, trained on prose",
    "calibration": "fewer calibration texts",
}


def table(setting: Setting, found: Mapping[int, Sequence[Measured]]) -> Report:
    """The table of a setting; found: seed -> its lines, the same for every seed."""
    columns = [task.name for task in setting.tasks]
    columns += ["mean"] * (len(columns) > 1) + ["joint"] * (setting.labels == "disjoint")
    report = Report(
        f"{setting.model}_{setting.name}",
        f"{_FAMILIES[setting.model]}: {(_TEXT_TITLES if setting.model == 'bert' else _IMAGE_TITLES)[setting.name]}",
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
            mean={name: mean_of(each) for name, each in values.items()},
            standard_error={name: standard_error_of(each) for name, each in values.items()},
            size=[line.size for line in lines],
            seconds=seconds,
        )
    return report


def summary(values: Sequence[float | None], digits: int = 1, sign: Literal["", "+"] = "") -> str:
    """Mean and standard error over seeds, "97.5 ± 0.3"; "-" where nothing could be measured.  sign: "+" to show it before gains too."""
    mean = mean_of(values)
    return "-" if mean is None else beside_error(mean, standard_error_of(values), digits, sign)


def beside_error(value: float, error: float | None, digits: int = 1, sign: Literal["", "+"] = "") -> str:
    """A number and its standard error, if it has one."""
    told = f"{value:{sign}.{digits}f}"
    return told if error is None else f"{told} ± {error:.{digits}f}"


def mean_of(values: Sequence[float | None]) -> float | None:
    """Of what could be measured."""
    known = [value for value in values if value is not None]
    return statistics.mean(known) if known else None


def standard_error_of(values: Sequence[float | None]) -> float | None:
    """Of the mean of what could be measured; None of one number."""
    known = [value for value in values if value is not None]
    return statistics.stdev(known) / math.sqrt(len(known)) if len(known) > 1 else None


def _explanation(setting: Setting, seeds: int) -> str:
    base, donor = (parent.name for parent in setting.parents)
    things, every = ("texts", "all eight packages") if setting.model == "bert" else ("images", "all ten digits")
    tasks = "the task known" if setting.labels == "disjoint" else f"{every} possible"
    joint = f"; joint: over {every}, the task unknown" if setting.labels == "disjoint" else ""
    given = (
        "" if setting.name == "calibration" else f" {CALIBRATION} training {things} without labels to calibrate with."
    )
    norms = "" if setting.model == "bert" else " BatchNorm's statistics are estimated anew unless it says so."
    return (
        f"Parents {base} (the base) and {donor}, trained from different random weights. Per cent of held-out {things}, "
        f"{tasks}{joint}; mean ± standard error over {seeds} seeds, which differ in everything.{given}{norms} "
        "Parameters are over the base's."
    )
