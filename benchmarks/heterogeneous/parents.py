"""Trains the models that are merged, and keeps them: `python -m benchmarks.heterogeneous.parents`.

Each is an ordinary model folder, CACHE/seed0/resnet16-mnist-a, and is trained again only when its recipe has changed.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.heterogeneous.data import Division, divide, load
from benchmarks.heterogeneous.keeping import is_kept, keep
from benchmarks.heterogeneous.options import in_processes, parser
from benchmarks.heterogeneous.scoring import accuracy, outputs_of
from benchmarks.heterogeneous.settings import MODELS, PARENTS, RECIPES, ImageSet, Parent, Recipe
from benchmarks.heterogeneous.text_settings import TEXT_PARENTS, TEXT_RECIPES
from benchmarks.heterogeneous.training import new_model, train

__all__ = ["Trained", "main", "saved_model", "train_parents"]


@dataclass(frozen=True)
class Trained:
    """What became of a parent: its accuracy on the held-out examples of its own labels, per cent, and the seconds it took."""

    accuracy: float
    seconds: float


@dataclass(frozen=True)
class _Job:
    folder: Path
    parent: Parent
    seed: int


def main(arguments: Sequence[str] | None = None) -> None:
    """Train the parents that are missing."""
    commands = parser(__doc__)
    commands.add_argument("--model", nargs="+", choices=(*MODELS, "bert"), default=(*MODELS, "bert"))
    given = commands.parse_args(arguments)
    wanted = [parent for parent in (*PARENTS, *TEXT_PARENTS) if parent.model in given.model]
    train_parents(given.cache, wanted, given.seeds, given.processes)


def train_parents(folder: Path, parents: Sequence[Parent], seeds: Sequence[int], processes: int) -> None:
    """Train those of `parents` that are not in `folder`, print each, and keep them there."""
    jobs = [_Job(folder, parent, seed) for seed in seeds for parent in parents if not _is_there(folder, parent, seed)]
    for job, trained in in_processes(_train, jobs, processes) if jobs else ():
        print(f"seed {job.seed} {job.parent.name}: {trained.accuracy:.2f} %, {trained.seconds:.1f} s", flush=True)


def saved_model(folder: Path, parent: Parent, seed: int) -> Any:
    """A trained parent, loaded, in evaluation mode; RuntimeError when it is not there."""
    from transformers import AutoModelForImageClassification, AutoModelForSequenceClassification

    if not _is_there(folder, parent, seed):
        raise RuntimeError(f"{parent.name} of seed {seed} is not trained: python -m benchmarks.heterogeneous.parents")
    kind = AutoModelForSequenceClassification if parent.model == "bert" else AutoModelForImageClassification
    return kind.from_pretrained(_place(folder, parent, seed)).eval()


def _place(folder: Path, parent: Parent, seed: int) -> Path:
    return folder / f"seed{seed}" / parent.name


def _recipe(parent: Parent) -> Recipe:
    return (RECIPES if parent.model != "bert" else TEXT_RECIPES)[parent.model, parent.images]


def _facts(parent: Parent) -> dict[str, Any]:
    """What a parent depends on beside its seed; depths only where they are not the usual ones."""
    told = {name: value for name, value in asdict(parent).items() if name != "depths" or value}
    return {"parent": told, "recipe": asdict(_recipe(parent))}


def _is_there(folder: Path, parent: Parent, seed: int) -> bool:
    return is_kept(_place(folder, parent, seed), _facts(parent))


def _train(job: _Job) -> Trained:
    parent, place = job.parent, _place(job.folder, job.parent, job.seed)
    division = _division(parent.images, job.seed)
    begun = time.perf_counter()
    model = train(
        new_model(parent, job.seed), division.train, parent.labels, _recipe(parent), seed=parent.torch_seed(job.seed)
    )
    seconds = time.perf_counter() - begun
    held_out = division.held_out.only(parent.labels)
    right = accuracy(outputs_of(model), held_out, parent.labels)
    assert right is not None  # its own labels are those that it knows
    keep(model, place, _facts(parent), accuracy=right, seconds=round(seconds, 1))
    return Trained(right, seconds)


@cache
def _division(images: ImageSet, seed: int) -> Division:
    return divide(load(images), seed)


if __name__ == "__main__":
    main()
