"""Ordinary methods after an alignment, `python -m benchmarks.heterogeneous.aligned`: recipes with and without `align`, on the same parents.

Every merge is one by `hubmerge merge`, into a folder that is loaded and scored.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks.engine.report import Report
from benchmarks.heterogeneous.data import calibration, divide, load
from benchmarks.heterogeneous.measuring import Measured
from benchmarks.heterogeneous.options import in_processes, parser
from benchmarks.heterogeneous.parents import saved_model, train_parents
from benchmarks.heterogeneous.saving import save_report
from benchmarks.heterogeneous.scoring import outputs_of, renormalised, scores
from benchmarks.heterogeneous.settings import CALIBRATION, SETTINGS, Setting
from benchmarks.heterogeneous.tables import RESULTS, table

__all__ = ["ALIGNMENTS", "METHODS", "OTHER_WIDTHS", "main", "recipe_of"]

METHODS: Mapping[str, Mapping[str, Any]] = {
    "linear": {"parameters": {"weight": 0.5}},
    "slerp": {"parameters": {"t": 0.5}},
    "ties": {"parameters": {"weight": 0.5, "density": 0.5, "normalize": False}},
}
"""What a recipe says beside its models; slerp and ties have the first as base."""

ALIGNMENTS = ("none", "weights", "activations")
OTHER_WIDTHS = ("weights", "weights_fold", "activations", "fold")
"""Where the models have other widths; fold: units without a partner join another one or are copied, by activations unless it says weights."""
_SETTINGS: Mapping[str, Sequence[str]] = {
    "same": ALIGNMENTS, "domain": ALIGNMENTS, "wider": OTHER_WIDTHS, "narrower": OTHER_WIDTHS,
}  # fmt: skip

_BASED = {"slerp", "ties"}


@dataclass(frozen=True)
class _Job:
    cache: Path
    setting: Setting
    seed: int


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure every method with every alignment in the settings with the same labels."""
    commands = parser(__doc__)
    commands.add_argument(
        "--settings", nargs="+", choices=list(_SETTINGS), default=list(_SETTINGS), help="which tables"
    )
    commands.add_argument("--results", type=Path, default=RESULTS, help="folder for the JSON")
    given = commands.parse_args(arguments)
    settings = [setting for setting in SETTINGS if setting.model == "resnet" and setting.name in given.settings]
    train_parents(given.cache, [parent for each in settings for parent in each.parents], given.seeds, given.processes)
    for setting in settings:
        jobs = [_Job(given.cache, setting, seed) for seed in given.seeds]
        found = {job.seed: lines for job, lines in in_processes(_measured, jobs, given.processes)}
        save_report("aligned", _report(setting, {seed: found[seed] for seed in given.seeds}), given.results)


def _measured(job: _Job) -> tuple[Measured, ...]:
    return tuple(_lines(job))


def _lines(job: _Job) -> Iterator[Measured]:
    from transformers import AutoModelForImageClassification

    import hubmerge

    divisions = {name: divide(load(name), job.seed) for name in job.setting.images}
    held_out = {name: division.held_out for name, division in divisions.items()}
    batches = calibration(job.setting, divisions, CALIBRATION)

    base = saved_model(job.cache, job.setting.parents[0], job.seed)

    def scored(key: str, label: str, model: Any, seconds: float | None = None) -> Measured:
        size = model.num_parameters() / base.num_parameters()
        return Measured(key, label, scores(outputs_of(model), job.setting, held_out), size, seconds)

    with TemporaryDirectory() as name:
        place = Path(name)
        folders = [place / parent.name for parent in job.setting.parents]
        for parent, folder in zip(job.setting.parents, folders, strict=True):
            model = saved_model(job.cache, parent, job.seed)
            model.save_pretrained(folder)
            yield scored(f"parent {parent.name}", f"parent {parent.name}", model)
        if "none" not in _SETTINGS[job.setting.name]:
            alone = renormalised(base, batches)
            yield scored("base_renormalised", "the base alone, statistics estimated anew", alone)
        np.savez(place / "data.npz", pixel_values=np.concatenate([batch["pixel_values"].numpy() for batch in batches]))
        for method in METHODS:
            for alignment in _SETTINGS[job.setting.name]:
                out = place / f"{method}-{alignment}"
                begun = time.perf_counter()
                hubmerge.merge(recipe_of(method, alignment, folders, place / "data.npz"), out)
                seconds = time.perf_counter() - begun
                merged = AutoModelForImageClassification.from_pretrained(out).eval()
                if alignment == "none":
                    yield scored(f"{method}_averaged", f"{method}, statistics averaged", merged)
                    merged = renormalised(merged, batches)
                yield scored(f"{method}_{alignment}", f"{method}, {_WORDS[alignment]}", merged, seconds)


_WORDS = {
    "none": "no alignment",
    "weights": "after align: weights",
    "weights_fold": "after align: weights, widths: fold",
    "activations": "after align: activations",
    "fold": "after align: activations, widths: fold",
}


def recipe_of(method: str, alignment: str, folders: Sequence[Path], data: Path) -> dict[str, Any]:
    """The recipe of one line.  folders: of the base and the other model; data: the calibration images."""
    base, other = map(str, folders)
    recipe = {"merge_method": method, "models": [{"model": base}, {"model": other}], **METHODS[method]}
    if method in _BASED:
        recipe["base_model"] = base
    if method == "ties":
        recipe["models"] = [{"model": other}]
    folds = {"fold": "activations", "weights_fold": "weights"}
    way = {"method": folds[alignment], "widths": "fold"} if alignment in folds else alignment
    aligned = {"align": way, "calibration": {"data": str(data), "samples": CALIBRATION, "batch": 100}}
    return recipe | (aligned if alignment != "none" else {})


def _report(setting: Setting, found: Mapping[int, Sequence[Measured]]) -> Report:
    report = table(setting, found)
    report.name = f"aligned_{setting.name}"
    report.title = f"Ordinary methods after an alignment, {report.title}"
    return report


if __name__ == "__main__":
    main()
