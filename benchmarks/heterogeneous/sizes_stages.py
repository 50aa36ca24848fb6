"""One stage of an alignment in a process of its own: `run_stage` starts it, the module's `main` is what runs there."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from benchmarks.engine.resident import Watch, forget_the_peak, memory_of, return_free_memory

__all__ = ["STAGES", "Stage", "Taken", "main", "run_stage"]


@dataclass(frozen=True)
class Stage:
    """What is done.

    what: of `STAGES`.  folders: of the two models, and where a delta is carried of one trained from the second; none for an assignment
    alone.  samples: texts, or rows.  width: of an assignment alone.  room: bytes that a fit may have in memory, the rest on the
    disk; None for all of it.  tokens: of every text; batch: texts that are run at once.
    """

    what: str
    folders: tuple[str, ...] = ()
    samples: int = 0
    width: int = 0
    room: int | None = None
    tokens: int = 16
    batch: int = 8


@dataclass(frozen=True)
class Taken:
    """Seconds of processor time, of loading and of the stage, and seconds of the clock of the stage; bytes: resident before the models,
    with them; what of mapped files became resident in the stage, which is weights that are first used; the peak above that and what was there; the
    peak of anonymous memory above what was there; the size of the scratch file.
    """

    loading: float
    seconds: float
    clock: float
    before: int
    loaded: int
    mapped: int
    peak: int
    anonymous: int
    disk: int


def run_stage(stage: Stage) -> Taken:
    """Do `stage` in a fresh process, on one thread, as merges of unlike models are done."""
    command = [sys.executable, "-m", "benchmarks.heterogeneous.sizes_stages", json.dumps(asdict(stage))]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).resolve().parents[2])
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return Taken(**json.loads(done.stdout.splitlines()[-1]))


def main(arguments: Sequence[str]) -> None:
    """Do the stage that is described in JSON, and print what it took as JSON."""
    given = json.loads(arguments[0])
    stage = Stage(**{**given, "folders": tuple(given["folders"])})
    import torch
    import transformers

    from hubmerge.heterogeneous.loading import load_in_float32
    from hubmerge.model_config import read_folder_config

    torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()
    work = STAGES[stage.what]
    before, begun = memory_of("VmRSS"), time.process_time()
    models = [load_in_float32(Path(each), read_folder_config(Path(each)), each) for each in stage.folders]
    loading = time.process_time() - begun
    gc.collect()
    return_free_memory()
    forget_the_peak()
    loaded, files, anonymous = (memory_of(field) for field in ("VmRSS", "RssFile", "RssAnon"))
    with Watch(every=0.02) as watch:
        begun, clock = time.process_time(), time.perf_counter()
        found = work(stage, models)
        seconds, clock = time.process_time() - begun, time.perf_counter() - clock
    mapped = max(0, memory_of("RssFile") - files)
    peak = memory_of("VmHWM") - loaded - mapped
    disk = found or 0
    taken = Taken(loading, seconds, clock, before, loaded - before, mapped, peak, watch.worst - anonymous, disk)
    print(json.dumps(asdict(taken)))


def _texts(stage: Stage, models: Sequence[Any]) -> list[dict[str, Any]]:
    """Random tokens."""
    import torch

    drawn = torch.Generator().manual_seed(0)
    tokens = torch.randint(3, models[0].config.vocab_size, (stage.samples, stage.tokens), generator=drawn)
    return [{"input_ids": part} for part in tokens.split(stage.batch)]


def _activations(stage: Stage, models: Sequence[Any], most: int | None = None) -> None:
    from hubmerge.heterogeneous.activations import correlations_by_group
    from hubmerge.heterogeneous.matching import match_units
    from hubmerge.heterogeneous.passes import AT_ONCE
    from hubmerge.symmetry import spec_of

    specs = [spec_of(model) for model in models]
    parts = correlations_by_group(models, specs, _texts(stage, models), most=AT_ONCE if most is None else most)
    for (part,) in parts:
        match_units(specs[0], part)


def _at_once(stage: Stage, models: Sequence[Any]) -> None:
    _activations(stage, models, most=2**62)


def _weights(_stage: Stage, models: Sequence[Any]) -> None:
    from hubmerge.heterogeneous.matching import matches_of_weights
    from hubmerge.symmetry import spec_of

    matches_of_weights(spec_of(models[0]), *(model.state_dict() for model in models))


def _merging(stage: Stage, models: Sequence[Any]) -> None:
    from hubmerge.heterogeneous.merging import merge_models

    merge_models(models, _texts(stage, models), align="identity", fit=None)


def _fitting(stage: Stage, models: Sequence[Any]) -> int | None:
    """The size of the scratch file."""
    from hubmerge.heterogeneous.merging import merge_models
    from hubmerge.heterogeneous.scratch import scratch_in

    texts = _texts(stage, models)
    with tempfile.TemporaryDirectory() as folder, scratch_in(Path(folder), stage.room or 0) as scratch:
        place = None if stage.room is None else scratch
        merge_models(models, texts, align="identity", fit="merged", ridge=1e-3, follow="all", scratch=place)
        return scratch.size


def _carrying(residual: Literal["keep", "orthogonal"], stage: Stage, models: Sequence[Any]) -> None:
    """What the third model learned on top of the second, carried to the first."""
    from hubmerge.heterogeneous.transport import Donor, transport_deltas

    target, base, learned = models
    transport_deltas(target, [Donor(learned, base)], _texts(stage, models), residual=residual)


def _single_layers(stage: Stage, models: Sequence[Any]) -> None:
    """Two shares of every layer of the second model tried in the first; as a recipe does it, that has no more use for the models."""
    from hubmerge.heterogeneous.mal_rounds import assemble_from_zoo

    base, *donors = models
    assemble_from_zoo(base, donors, _texts(stage, models), tau=0.1, factors=(0.1, 0.05), shared=True)


def _assignment(stage: Stage, _models: Sequence[Any]) -> None:
    """Units that are found again in another order and with as much noise as signal."""
    import torch

    from hubmerge.heterogeneous.correlation_sums import Correlation, Sums
    from hubmerge.heterogeneous.matching import match_units
    from hubmerge.symmetry.groups import Group, Kind, SymmetrySpec

    drawn = torch.Generator().manual_seed(0)
    ours, noise = (torch.randn(stage.samples, stage.width, generator=drawn) for _ in range(2))
    sums = Sums()
    sums.add(ours, ours[:, torch.randperm(stage.width, generator=drawn)] + noise)
    spec = SymmetrySpec("one", {"unit": Group("unit", "unit", Kind.PERMUTATION, stage.width)}, {})
    found = match_units(spec, {"unit": Correlation(np.ascontiguousarray(sums.correlation()), {})})
    if found["unit"].matched != stage.width:
        raise RuntimeError("units were left over")


STAGES: dict[str, Callable[[Stage, Sequence[Any]], int | None]] = {
    "loading": lambda _stage, _models: None,
    "matching by activations": _activations,
    "matching by activations, all sums at once": _at_once,
    "matching by weights": _weights,
    "averaging": _merging,
    "averaging and least squares": _fitting,
    "carrying a delta": partial(_carrying, "keep"),
    "carrying a delta, stream turned": partial(_carrying, "orthogonal"),
    "single layers": _single_layers,
    "assignment": _assignment,
}
"""What can be measured, by the name that tables call it."""


if __name__ == "__main__":
    main(sys.argv[1:])
