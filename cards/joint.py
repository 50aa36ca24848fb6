"""Several classification tasks as one: every row against the union of their labels, with no word of which task it is of.

After the joint evaluation of KnOTS (Stoica et al. 2024, arXiv:2410.19735), whose classes are texts that one encoder turned into
one head.  Here a classifier's own outputs are read, or several heads side by side: a label's score is its output as it
is, no head is scaled to another, and of a label that two tasks have the higher output counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from cards.compare import pack_outcomes
from cards.data import TaskData
from cards.errors import SuiteError
from cards.results import Outcomes, TaskResult
from cards.suite import HITS, Joint, Suite, Task

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["JointTask", "joint_results", "open_joint", "ranks_of"]


@dataclass(frozen=True)
class JointTask:
    """The joint measurement of a suite.  labels: the union of the tasks', sorted; own: every task's; data: every task's rows."""

    spec: Joint
    seed: int
    tasks: tuple[Task, ...]
    data: tuple[TaskData, ...]

    @property
    def own(self) -> tuple[tuple[str, ...], ...]:
        return tuple(data.all_labels for data in self.data)

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(sorted({label for labels in self.own for label in labels}))

    def scores(self, logits: Sequence[Tensor | None], outputs: Sequence[Mapping[str, int]]) -> Tensor:
        """(rows, labels of the union): what the tasks' heads give for each label, -inf where none has an output for it.

        logits: for every task what its head answers to the same rows, None to leave a task's labels out.  outputs: for
        every task which output is which label.
        """
        import torch

        rows = next(len(found) for found in logits if found is not None)
        scores = torch.full((rows, len(self.labels)), -torch.inf)
        places = {label: place for place, label in enumerate(self.labels)}
        for found, labels, names in zip(logits, self.own, outputs, strict=True):
            known = [label for label in labels if label in names] if found is not None else []
            if found is not None and known:
                at = [places[label] for label in known]
                mine = found[:, [names[label] for label in known]].cpu()
                scores[:, at] = torch.maximum(scores[:, at], mine)
        return scores

    def wanted(self, data: TaskData) -> tuple[int, ...]:
        """The place of every row's label in the union."""
        places = {label: place for place, label in enumerate(self.labels)}
        return tuple(places[label] for label in data.labels)


def open_joint(suite: Suite, data: Sequence[TaskData]) -> JointTask | None:
    """The joint measurement that a suite asks for; data: that of all its tasks, in order.

    Raises `SuiteError` when the tasks have only one label between them.
    """
    if suite.joint is None:
        return None
    tasks = suite.joint_tasks
    opened = dict(zip((task.name for task in suite.tasks), data, strict=True))
    joint = JointTask(suite.joint, suite.seed, tasks, tuple(opened[task.name] for task in tasks))
    if len(joint.labels) < 2:
        raise SuiteError(f"all rows have the label {joint.labels[0]!r}", where="joint", hint="name other tasks")
    return joint


def ranks_of(scores: Tensor, wanted: Sequence[int]) -> list[int]:
    """The rank of every row's true label, 1 for the highest score.

    scores: (rows, labels).  Of equal scores the label that comes first ranks higher.  A label without a score (-inf)
    ranks behind all labels, so that it is never a hit.
    """
    import torch

    true = torch.tensor(wanted).unsqueeze(1)
    own = scores.gather(1, true)
    earlier = torch.arange(scores.shape[1]) < true
    above = (scores > own) | ((scores == own) & earlier)
    ranks = above.sum(dim=1) + 1
    return torch.where(own.squeeze(1) == -torch.inf, scores.shape[1] + 1, ranks).tolist()


def joint_results(
    joint: JointTask,
    ranks: Sequence[Sequence[int]],
    *,
    heads: tuple[str, ...] = (),
    seconds: float = 0.0,
    notes: tuple[str, ...] = (),
) -> list[TaskResult]:
    """Hits@1, 3 and 5 over the rows of all tasks pooled, as far as there are more labels than that.

    ranks: `ranks_of` every task's rows, in the order of the tasks.  heads, seconds, notes: as in `TaskResult`.
    """
    from cards.metrics import share

    pooled = [rank for of_task in ranks for rank in of_task]
    digests = "".join(f"{data.sha256}\n" for data in joint.data)
    names = tuple(dict.fromkeys(Path(task.data).name for task in joint.tasks))
    found = []
    for k, metric in HITS.items():
        if k >= len(joint.labels):
            continue
        correct = [rank <= k for rank in pooled]
        value, stderr = share(correct)
        result = TaskResult(
            name=joint.spec.name,
            task=joint.tasks[0].task,
            metric=metric,
            value=value,
            stderr=stderr,
            n=len(pooled),
            higher_is_better=True,
            seed=joint.seed,
            data=" + ".join(names),
            data_sha256=sha256(digests.encode()).hexdigest(),
            labels=joint.labels,
            joint=tuple(task.name for task in joint.tasks),
            heads=heads,
            seconds=seconds,
            notes=notes,
            outcomes=Outcomes(correct=pack_outcomes(correct)),
        )
        found.append(result)
    return found
