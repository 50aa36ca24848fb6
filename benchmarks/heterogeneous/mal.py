"""MAL beside its control, `python -m benchmarks.heterogeneous.mal`: what layers of a zoo bring a base that BatchNorm's statistics do not.

The base knows MNIST; donors know scikit-learn's digits (24, 16 and 12 channels) or MNIST from another start.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.engine.report import Report
from benchmarks.heterogeneous.data import Batch, Division, calibration, divide, load
from benchmarks.heterogeneous.options import in_processes, parser
from benchmarks.heterogeneous.parents import saved_model, train_parents
from benchmarks.heterogeneous.saving import save_report
from benchmarks.heterogeneous.scoring import outputs_of, scores
from benchmarks.heterogeneous.settings import CALIBRATION, PARENTS, SETTINGS, ImageSet
from benchmarks.heterogeneous.tables import RESULTS, summary

__all__ = ["ASSEMBLIES", "PROBE", "Assembly", "main"]

PROBE = 200
"""Labelled training images of each set, none of them among the calibration images."""

_BASE = "resnet16-mnist-a"
_WIDE, _NARROW = "resnet24-digits", "resnet12-digits"
_ZOO = (_WIDE, _NARROW, "resnet16-digits", "resnet16-mnist-b")


@dataclass(frozen=True)
class Assembly:
    """One line.  donors: folders of parents.  arguments: of `assemble_from_zoo`.  data, probe: whether it is given any."""

    key: str
    label: str
    donors: tuple[str, ...]
    arguments: Mapping[str, Any]
    data: bool = True
    probe: bool = False


ASSEMBLIES: tuple[Assembly, ...] = (
    Assembly("wide_05", "24 channels, drift within 0.05", (_WIDE,), {"tau": 0.05}),
    Assembly("wide_10", "24 channels, drift within 0.1", (_WIDE,), {"tau": 0.1}),
    Assembly("wide_30", "24 channels, drift within 0.3", (_WIDE,), {"tau": 0.3}),
    Assembly("wide_noise", "24 channels, drift within 0.1 on noise, no data", (_WIDE,), {"tau": 0.1}, data=False),
    Assembly("narrow_10", "12 channels, drift within 0.1", (_NARROW,), {"tau": 0.1}),
    Assembly("narrow_30", "12 channels, drift within 0.3", (_NARROW,), {"tau": 0.3}),
    Assembly("zoo_10", "four donors, drift within 0.1", _ZOO, {"tau": 0.1}),
    Assembly(
        "zoo_probe", "four donors, drift within 0.1, loss not above the control's", _ZOO, {"eps": 0.0}, probe=True
    ),
    Assembly("zoo_best", "four donors, drift within 0.1, lowest loss", _ZOO, {"choose": "best"}, probe=True),
    Assembly(
        "zoo_best_30", "four donors, drift within 0.3, lowest loss", _ZOO, {"tau": 0.3, "choose": "best"}, probe=True
    ),
)


@dataclass(frozen=True)
class _Job:
    cache: Path
    seed: int


@dataclass(frozen=True)
class _Line:
    key: str
    label: str
    scores: Mapping[str, float | None]
    taken: str = "-"
    seconds: float | None = None


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure every line of `ASSEMBLIES`."""
    commands = parser(__doc__)
    commands.add_argument("--results", type=Path, default=RESULTS, help="folder for the JSON")
    given = commands.parse_args(arguments)
    wanted = [parent for parent in PARENTS if parent.name in {_BASE, *_ZOO}]
    train_parents(given.cache, wanted, given.seeds, given.processes)
    jobs = [_Job(given.cache, seed) for seed in given.seeds]
    found = {job.seed: lines for job, lines in in_processes(_measured, jobs, given.processes)}
    save_report("mal", _table({seed: found[seed] for seed in given.seeds}), given.results)


def _measured(job: _Job) -> tuple[_Line, ...]:
    return tuple(_lines(job))


def _lines(job: _Job) -> Iterator[_Line]:
    from hubmerge.heterogeneous import assemble_from_zoo

    setting = next(setting for setting in SETTINGS if setting.name == "domain" and setting.model == "resnet")
    models = {
        parent.name: saved_model(job.cache, parent, job.seed) for parent in PARENTS if parent.name in {_BASE, *_ZOO}
    }
    divisions = {name: divide(load(name), job.seed) for name in setting.images}
    held_out = {name: division.held_out for name, division in divisions.items()}
    batches, probe = calibration(setting, divisions, CALIBRATION), _probe(divisions)
    yield _Line("base", "the base", scores(outputs_of(models[_BASE]), setting, held_out))
    control = assemble_from_zoo(models[_BASE], [], batches).control
    yield _Line("control", "the base, BatchNorm's statistics anew", scores(outputs_of(control), setting, held_out))
    for assembly in ASSEMBLIES:
        begun = time.perf_counter()
        done = assemble_from_zoo(
            models[_BASE],
            [models[name] for name in assembly.donors],
            batches if assembly.data else None,
            probe=probe if assembly.probe else None,
            **assembly.arguments,
        )
        seconds = time.perf_counter() - begun
        taken = f"{sum(decision.accepted for decision in done.decisions)}/{len(done.decisions)}"
        own = scores(outputs_of(done.model), setting, held_out)
        yield _Line(assembly.key, assembly.label, own, taken, seconds)


def _probe(divisions: Mapping[ImageSet, Division]) -> list[Batch]:
    """A batch of each set, the images after those of the calibration."""
    import torch

    first = CALIBRATION // len(divisions)
    return [
        {
            "pixel_values": torch.from_numpy(division.train.inputs[first : first + PROBE]),
            "labels": torch.from_numpy(division.train.labels[first : first + PROBE]),
        }
        for division in divisions.values()
    ]


def _table(found: Mapping[int, Sequence[_Line]]) -> Report:
    report = Report(
        "mal",
        "ResNet: layers of a zoo, one by one",
        f"Base {_BASE}. Per cent of held-out images, mean ± standard error over {len(found)} seeds; over the control: the difference of "
        f"means, seed by seed. {CALIBRATION} training images of both sets without labels; the loss is that of {PROBE} labelled ones of each "
        "set. Layers: how many of those that were tried were merged in, by seed.",
        ("method", "layers", "MNIST", "digits", "mean", "over the control", "seconds"),
        {"seeds": list(found)},
    )
    controls = [next(line for line in lines if line.key == "control") for lines in found.values()]
    for lines in zip(*found.values(), strict=True):
        values = {name: [line.scores[name] for line in lines] for name in lines[0].scores}
        over = [
            own.scores["mean"] - other.scores["mean"]
            for own, other in zip(lines, controls, strict=True)
            if own.scores["mean"] is not None and other.scores["mean"] is not None
        ]
        seconds = [line.seconds for line in lines if line.seconds is not None]
        cells = (summary(values[name]) for name in ("MNIST", "digits", "mean"))
        taken = " ".join(line.taken for line in lines) if seconds else "-"
        row = (lines[0].label, taken, *cells, summary(over), f"{statistics.mean(seconds):.1f}" if seconds else "-")
        report.add(row, key=lines[0].key, scores=values, over_control=over, seconds=seconds)
    return report


if __name__ == "__main__":
    main()
