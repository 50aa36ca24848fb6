"""One setting with one seed: its parents, its controls and every way of merging them, scored on held-out images."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.heterogeneous.data import Batch, Division, calibration, divide, load, proxy
from benchmarks.heterogeneous.examples import Examples
from benchmarks.heterogeneous.parents import saved_model
from benchmarks.heterogeneous.rows import Row, rows
from benchmarks.heterogeneous.scoring import Outputs, ensemble, outputs_of, renormalised, scores
from benchmarks.heterogeneous.settings import CALIBRATION, ImageSet, Setting

__all__ = ["Job", "Measured", "measure"]


@dataclass(frozen=True)
class Job:
    """A setting and a seed; cache: the folder of the trained parents; rows: the keys of the lines that are measured, all without it.

    Controls are measured where one of them is among the keys, then all of them.
    """

    cache: Path
    setting: Setting
    seed: int
    rows: tuple[str, ...] = ()


@dataclass(frozen=True)
class Measured:
    """One line of a table for one seed.

    scores: accuracies in per cent, as `scoring.scores` names them.  size: parameters over the base's.  seconds: of the
    merge; None for controls.
    """

    key: str
    label: str
    scores: Mapping[str, float | None]
    size: float
    seconds: float | None = None


def measure(job: Job, merge: Callable[..., Any] | None = None) -> tuple[Measured, ...]:
    """Score parents, controls and merges; merge: `hubmerge.heterogeneous.merge_models` unless another is given."""
    if merge is None:
        from hubmerge.heterogeneous import merge_models

        merge = merge_models
    bench, merges = _Bench(job), [row for row in rows(job.setting) if not job.rows or row.key in job.rows]
    controls = bench.controls() if not job.rows or len(merges) < len(set(job.rows)) else ()
    return (*controls, *(bench.merged(row, merge) for row in merges))


@dataclass
class _Bench:
    """The loaded parents and data of a job."""

    job: Job
    parents: list[Any] = field(init=False)
    divisions: dict[ImageSet, Division] = field(init=False)
    held_out: dict[ImageSet, Examples] = field(init=False)

    def __post_init__(self) -> None:
        setting, seed = self.job.setting, self.job.seed
        self.parents = [saved_model(self.job.cache, parent, seed) for parent in setting.parents]
        self.divisions = {name: divide(_images(name), seed) for name in setting.images}
        self.held_out = {name: division.held_out for name, division in self.divisions.items()}

    def controls(self) -> Iterator[Measured]:
        """The parents, all of them at once, and the base that only saw the calibration images."""
        setting = self.job.setting
        outputs = [outputs_of(parent) for parent in self.parents]
        sizes = [_parameters(parent) / _parameters(self.parents[0]) for parent in self.parents]
        for number, (parent, each, size) in enumerate(zip(setting.parents, outputs, sizes, strict=True)):
            yield self._scored(f"parent_{number}", f"parent {parent.name}", each, size)
        yield self._scored("ensemble", "ensemble", ensemble(outputs, setting.labels), sum(sizes))
        if setting.model == "resnet":
            base = renormalised(self.parents[0], calibration(setting, self.divisions, CALIBRATION))
            yield self._scored("base_renormalised", "the base, BatchNorm's statistics anew", outputs_of(base), 1.0)

    def merged(self, row: Row, merge: Callable[..., Any]) -> Measured:
        setting = self.job.setting
        own = row.images is None
        batches = calibration(setting, self.divisions, row.calibration) if own else self._proxy(row)
        begun = time.perf_counter()
        done = merge(self.parents, batches, labels=setting.labels, seed=self.job.seed, **row.arguments)
        seconds = time.perf_counter() - begun
        size = _parameters(done.model) / _parameters(self.parents[0])
        return self._scored(row.key, row.label, outputs_of(done.model), size, seconds)

    def _proxy(self, row: Row) -> list[Batch]:
        assert row.images is not None
        return proxy(row.images, row.calibration, self.job.seed)

    def _scored(self, key: str, label: str, outputs: Outputs, size: float, seconds: float | None = None) -> Measured:
        return Measured(key, label, scores(outputs, self.job.setting, self.held_out), size, seconds)


def _parameters(model: Any) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@cache
def _images(name: ImageSet) -> Examples:
    return load(name)
