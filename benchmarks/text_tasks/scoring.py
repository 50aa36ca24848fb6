"""How good a model is on the six tasks: within each task, and among the labels of all when nobody says which task it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import TYPE_CHECKING, Any

from benchmarks.text_tasks.models import encoded, logits_of
from benchmarks.text_tasks.pieces import Examples
from benchmarks.text_tasks.settings import TASKS, Task

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["HITS", "Score", "score", "scored"]

HITS = (1, 3, 5)


@dataclass(frozen=True)
class Score:
    """Shares of the pieces.  accuracy: task -> the task's labels alone compete.  hits: k -> the right one is among the k first of all
    labels, the mean of the tasks.
    """

    accuracy: Mapping[str, float]
    hits: Mapping[int, float]

    @property
    def mean(self) -> float:
        """Accuracy, the mean of the tasks."""
        return mean(self.accuracy.values())

    def normalised(self, experts: Mapping[str, float]) -> float:
        """Accuracy over that of each task's own expert, the mean of the tasks."""
        return mean(self.accuracy[task] / experts[task] for task in self.accuracy)


def score(model: Any, tokenizer: Any, tokens: int, pieces: Mapping[str, Examples]) -> Score:
    """The scores on pieces of some tasks."""
    found = {}
    for task in TASKS:
        if task.name in pieces:
            examples = pieces[task.name]
            found[task] = (logits_of(model, encoded(tokenizer, examples.texts, tokens)), examples.labels)
    return scored(found)


def scored(found: Mapping[Task, tuple[Tensor, Sequence[int]]]) -> Score:
    """The scores of logits, (n, all labels) for each task, beside the right labels."""
    import torch

    accuracy: dict[str, float] = {}
    hits: dict[int, list[float]] = {k: [] for k in HITS}
    for task, (logits, labels) in found.items():
        right = torch.tensor(labels)
        own = logits[:, task.columns.start : task.columns.stop].argmax(1) + task.columns.start
        accuracy[task.name] = float((own == right).float().mean())
        first = logits.topk(max(HITS), dim=1).indices == right[:, None]
        for k in HITS:
            hits[k].append(float(first[:, :k].any(1).float().mean()))
    return Score(accuracy, {k: mean(values) for k, values in hits.items()})
