"""A loaded model on the rows of one task -> measurements; perplexity, where padding is never counted."""

from __future__ import annotations

from collections.abc import Mapping

from cards.accuracy import score_classifier
from cards.data import TaskData
from cards.errors import EvaluationError
from cards.heads import Head
from cards.joint import JointTask
from cards.measurement import Measurement, Scored
from cards.models import LoadedModel
from cards.results import Outcomes
from cards.scoring_faults import check_token_ids, named_faults, not_finite, place_of
from cards.suite import Task
from cards.windows import Window, cut_windows

__all__ = ["BATCH_SIZES", "rows_at_once", "score"]

BATCH_SIZES = {"image-classification": 32, "text-classification": 16, "perplexity": 4}
"""Rows (windows for perplexity) run at once when nothing else is asked for."""


def rows_at_once(task: Task, asked: int | None) -> int:
    """Rows of a batch: what was `asked` for, else the task's own number, else that of its kind."""
    return asked or task.batch_size or BATCH_SIZES[task.task]


def score(
    loaded: LoadedModel,
    task: Task,
    data: TaskData,
    batch_size: int,
    *,
    heads: Mapping[str, Head] | None = None,
    joint: JointTask | None = None,
) -> Scored:
    """Run `task` on the model and compute its metrics.

    heads: the heads that the suite's tasks name, by that name.  joint: ranks for a joint measurement are wanted too, if it
    holds this task.

    Raises `EvaluationError` naming model and task when labels do not match, when the tokenizer does not fit the
    model, when a head does not fit it, and when the model's numbers are not finite.
    """
    if task.task == "perplexity":
        return Scored(tuple(_score_perplexity(loaded, task, data, batch_size)))
    return score_classifier(loaded, task, data, batch_size, heads=heads or {}, joint=joint)


def _score_perplexity(loaded: LoadedModel, task: Task, data: TaskData, batch_size: int) -> list[Measurement]:
    from cards.metrics import compute

    texts = data.rows[task.text_column]
    windows, unknown = cut_windows(list(texts), loaded.processor, task.max_length, where=place_of(loaded, task))
    check_token_ids(max(max(window.tokens) for window in windows), loaded, task)
    _check_positions(loaded, task)
    losses: list[float] = []
    for start in range(0, len(windows), batch_size):
        with named_faults(loaded, task):
            losses.extend(_window_losses(loaded, windows[start : start + batch_size]))
    if not all(loss < float("inf") for loss in losses):  # also false for NaN
        raise not_finite(loaded, task)
    counts = [len(window.targets) for window in windows]
    text_bytes = sum(len(text.encode()) for text in texts)
    notes: tuple[str, ...] = ()
    if unknown:
        share = f"{unknown} of {sum(counts)} tokens are unknown to the tokenizer"
        notes = (f"{share}: they are predicted too easily, so the value flatters the model",)
    found = []
    for metric in task.metrics:
        extra = {"text_bytes": text_bytes} if metric == "bits_per_byte" else {}
        value, stderr = compute(metric, losses, counts, **extra)
        if value == float("inf"):
            raise not_finite(loaded, task)
        outcomes = Outcomes(losses=tuple(float(f"{loss:.7g}") for loss in losses), counts=tuple(counts))
        found.append(Measurement(metric, value, stderr, len(windows), False, outcomes, notes))
    return found


def _window_losses(loaded: LoadedModel, windows: list[Window]) -> list[float]:
    """Summed negative log-likelihood of every window's targets, in nats.

    Windows are padded on the right, where a causal model cannot look: real positions never see padding.
    """
    import torch
    from torch.nn.functional import cross_entropy

    longest = max(len(window.inputs) for window in windows)
    padded = [[*window.inputs, *[0] * (longest - len(window.inputs))] for window in windows]
    logits = loaded.model(input_ids=torch.tensor(padded, device=loaded.device), use_cache=False).logits
    losses = []
    for row, window in zip(logits, windows, strict=True):
        targets = torch.tensor(window.targets, device=row.device)
        # one row at a time: float32 logits of a whole batch can be gigabytes for large vocabularies
        losses.append(float(cross_entropy(row[: len(window.targets)].float(), targets, reduction="sum")))
    return losses


def _check_positions(loaded: LoadedModel, task: Task) -> None:
    limit = getattr(loaded.model.config, "max_position_embeddings", None)
    if isinstance(limit, int) and 0 < limit < task.max_length:
        raise EvaluationError(
            f"windows of {task.max_length} tokens, and the model takes {limit}",
            where=place_of(loaded, task),
            hint=f"set max_length: {limit} in this task; it applies to all models, so that they are comparable",
        )
