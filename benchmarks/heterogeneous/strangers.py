"""Tiny language models trained apart, merged, and what they learned, carried: `python -m benchmarks.heterogeneous.strangers`.

Three tables.  Models that are not in the cache are trained first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.heterogeneous.language_data import Sort
from benchmarks.heterogeneous.language_parents import random_order
from benchmarks.heterogeneous.options import in_processes, parser
from benchmarks.heterogeneous.saving import save_report
from benchmarks.heterogeneous.stranger_data import calibration_pieces, held_out, losses
from benchmarks.heterogeneous.stranger_models import strangers
from benchmarks.heterogeneous.stranger_rows import CARRIED, MERGED, TARGETS, Carry, Part
from benchmarks.heterogeneous.stranger_settings import ARCHITECTURES, STRANGER_SEEDS, Architecture
from benchmarks.heterogeneous.stranger_tables import compared_table, loss_table
from benchmarks.heterogeneous.tables import RESULTS

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["main", "with_random_order"]

_PARTS: tuple[Part, ...] = ("merged", "carried")
_Lines = Mapping[str, Mapping[Sort, float]]


@dataclass(frozen=True)
class _Job:
    cache: Path
    architecture: Architecture
    seed: int


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure every line with every seed."""
    commands = parser(__doc__)
    commands.set_defaults(seeds=list(STRANGER_SEEDS), processes=1)
    commands.add_argument("--architectures", nargs="+", choices=ARCHITECTURES, default=ARCHITECTURES)
    commands.add_argument("--results", type=Path, default=RESULTS, help="folder for the JSON")
    given = commands.parse_args(arguments)
    jobs = [_Job(given.cache, architecture, seed) for seed in given.seeds for architecture in given.architectures]
    found = {(job.architecture, job.seed): lines for job, lines in in_processes(_measured, jobs, given.processes)}
    parts = {
        part: {
            architecture: {seed: found[architecture, seed][part] for seed in given.seeds}
            for architecture in given.architectures
        }
        for part in _PARTS
    }
    for report in (*(loss_table(part, own) for part, own in parts.items()), compared_table(parts)):
        save_report("strangers", report, given.results)


def _measured(job: _Job) -> dict[Part, _Lines]:
    models = strangers(job.cache, job.architecture, job.seed)
    batches = calibration_pieces(job.seed)
    lines: dict[Part, _Lines] = {
        "merged": _merged(models, batches, job.seed),
        "carried": _carried(models, batches, job.seed),
    }
    print(f"seed {job.seed} {job.architecture}: measured", flush=True)
    return lines


def _merged(models: Mapping[str, Any], batches: Sequence[Mapping[str, Tensor]], seed: int) -> _Lines:
    from hubmerge.heterogeneous import merge_models
    from hubmerge.heterogeneous.untied import untied

    base, other = models["base"], models["other"]
    lines = {"base": _losses(base), "other": _losses(other), "ensemble": _losses(base, other)}
    for way in MERGED:
        parents = [untied(base), untied(other)] if way.untied else [base, other]
        lines[way.key] = _losses(merge_models(parents, batches, seed=seed, **way.arguments).model)
    return lines


def _carried(models: Mapping[str, Any], batches: Sequence[Mapping[str, Tensor]], seed: int) -> _Lines:
    from hubmerge.heterogeneous import Donor, transport_deltas

    lines = {key: _losses(models[key]) for key in TARGETS}
    for carry in CARRIED:
        learned, own_base = _learned(carry, models, seed), models[f"{carry.donor}-base"]
        donor = Donor(learned, own_base, carry.weight)
        lines[carry.key] = _losses(
            transport_deltas(models["base"], [donor], batches, seed=seed, **carry.arguments).model
        )
    return lines


def _learned(carry: Carry, models: Mapping[str, Any], seed: int) -> Any:
    model = models[carry.donor]
    return model if carry.order == "own" else with_random_order(model, models[f"{carry.donor}-base"], seed)


def with_random_order(model: Any, base: Any, seed: int) -> Any:
    """The base with what the model learned on top of it, its units in a random order: a task vector of the same numbers that fits nothing."""
    import torch

    from hubmerge.symmetry import spec_of, transform

    spec, start, end = spec_of(base), base.state_dict(), model.state_dict()
    learned = transform(spec, {name: end[name] - start[name] for name in start}, random_order(spec, seed))
    copy = deepcopy(base)
    with torch.no_grad():
        copy.load_state_dict({name: start[name] + learned[name] for name in start})
    return copy


def _losses(*models: Any) -> dict[Sort, float]:
    return losses(models, held_out())


if __name__ == "__main__":
    main()
