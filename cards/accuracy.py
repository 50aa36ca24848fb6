"""A loaded classifier on one task -> its accuracy, and where the true labels rank when tasks are measured together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cards.classification import Readout, check_labels, run_classifier
from cards.compare import pack_outcomes
from cards.data import TaskData
from cards.heads import Head
from cards.joint import JointTask, ranks_of
from cards.measurement import Measurement, Scored
from cards.models import LoadedModel
from cards.results import Outcomes
from cards.suite import Task

__all__ = ["score_classifier"]

_NO_OUTPUT = -1
"""What a row's label counts as when the head has no output for it: no head predicts it."""


def score_classifier(
    loaded: LoadedModel,
    task: Task,
    data: TaskData,
    batch_size: int,
    *,
    heads: Mapping[str, Head],
    joint: JointTask | None,
) -> Scored:
    """The accuracy of a model on `task`, and the ranks of its rows if it is one of `joint`'s; from one run over them.

    heads: those that tasks name, by that name.
    """
    from cards.metrics import compute

    together = joint if joint is not None and task in joint.tasks else None
    readouts = _readouts(loaded, task, data, heads, together)
    place = together.tasks.index(task) if together else 0
    outputs = readouts[place].outputs
    wanted = together.wanted(data) if together else ()
    predicted: list[int] = []
    ranks: list[int] = []
    for answers in run_classifier(loaded, task, data, batch_size, readouts):
        predicted.extend(answers.logits[place].argmax(dim=-1).tolist())
        if together is not None:
            scores = together.scores(answers.logits, [readout.outputs for readout in readouts])
            ranks.extend(ranks_of(scores, wanted[answers.rows]))
    truth = [outputs.get(label, _NO_OUTPUT) for label in data.labels]
    correct = [guess == true for guess, true in zip(predicted, truth, strict=True)]
    value, stderr = compute("accuracy", predicted, truth)
    outcomes = Outcomes(correct=pack_outcomes(correct))
    measured = Measurement("accuracy", value, stderr, len(correct), True, outcomes, _note(data, outputs))
    return Scored((measured,), tuple(ranks))


def _readouts(
    loaded: LoadedModel, task: Task, data: TaskData, heads: Mapping[str, Head], joint: JointTask | None
) -> Sequence[Readout]:
    """The head of the task, or one for each of the joint's tasks, checked against the labels of its data."""
    if joint is None:
        return [check_labels(loaded, task, data.label_set, heads.get(task.head or ""))]
    return [
        check_labels(loaded, each, labels, heads.get(each.head or ""))
        for each, labels in zip(joint.tasks, joint.own, strict=True)
    ]


def _note(data: TaskData, outputs: Mapping[str, int]) -> tuple[str, ...]:
    lacking = [label for label in data.label_set if label not in outputs]
    if not lacking:
        return ()
    rows = sum(label in lacking for label in data.labels)
    what = f"label{'s' * (len(lacking) > 1)} {', '.join(map(repr, lacking))}"
    return (f"no output for the {what}: {rows} of the rows count as wrong",)
