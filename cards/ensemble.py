"""The ensemble beside a joint measurement: every row through the model of every task, each giving the scores of its own labels."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING

from cards.classification import check_labels, run_classifier
from cards.joint import JointTask, joint_results, ranks_of
from cards.models import Candidate, find_candidates, load_model
from cards.results import ModelResult
from cards.scoring import rows_at_once
from cards.suite import Suite

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["find_members", "score_ensemble"]


def find_members(suite: Suite) -> tuple[Candidate, ...]:
    """The model of every task of the joint measurement, in their order; each is looked up, none is loaded."""
    named = [suite.model_at(name) for name in suite.joint.ensemble] if suite.joint else []
    once = tuple(dict.fromkeys(named))
    found = dict(zip(once, find_candidates(once), strict=True)) if once else {}
    return tuple(found[name] for name in named)


def score_ensemble(
    joint: JointTask,
    members: Sequence[Candidate],
    *,
    names: Collection[str],
    batch_size: int | None,
    device: str,
    say: Callable[[str], None],
) -> ModelResult:
    """The hits of all members together, as one more model of the results; one of them is in memory at a time.

    members: `find_members`.  names: those of the models that were scored before.  Raises `EvaluationError` as scoring does.
    """
    import torch

    started = time.perf_counter()
    scores = [torch.full((len(data.labels), len(joint.labels)), -torch.inf) for data in joint.data]
    dtypes = []
    once = {member.name: member for member in members}.values()
    with torch.inference_mode():
        for member in once:
            say(f"ensemble: loading {member.name}")
            dtypes.append(
                _add(joint, member, tuple(each.name == member.name for each in members), scores, batch_size, device)
            )
    ranks = [ranks_of(rows, joint.wanted(data)) for rows, data in zip(scores, joint.data, strict=True)]
    seconds = round(time.perf_counter() - started, 3)
    return ModelResult(
        model=", ".join(member.named for member in members),
        name=next(name for name in ("ensemble", *(f"ensemble ({n})" for n in range(2, 9999))) if name not in names),
        parameters=sum(member.parameters for member in once),
        size_bytes=sum(member.size_bytes for member in once),
        dtype=", ".join(dict.fromkeys(dtypes)),
        seconds=seconds,
        tasks=tuple(joint_results(joint, ranks, heads=tuple(member.name for member in members), seconds=seconds)),
    )


def _add(
    joint: JointTask,
    member: Candidate,
    mine: Sequence[bool],
    scores: Sequence[Tensor],
    batch_size: int | None,
    device: str,
) -> str:
    """Raise `scores` (of every task's rows, in place) to what one member gives the labels of its tasks; its dtype."""
    import torch

    loaded = load_model(member, joint.tasks[0].task, device)
    outputs, readouts = [], []
    for task, labels, of_member in zip(joint.tasks, joint.own, mine, strict=True):
        readout = check_labels(loaded, task, labels) if of_member else None
        readouts.append(readout)
        outputs.append(readout.outputs if readout else {})
    own = next(readout for readout in readouts if readout is not None)
    for task, data, rows in zip(joint.tasks, joint.data, scores, strict=True):
        for answers in run_classifier(loaded, task, data, rows_at_once(task, batch_size), [own]):
            logits = [answers.logits[0] if of_member else None for of_member in mine]
            rows[answers.rows] = torch.maximum(rows[answers.rows], joint.scores(logits, outputs))
    return str(loaded.model.dtype).removeprefix("torch.")
