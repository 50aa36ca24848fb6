"""A loaded model on the rows of one task -> measurements.  Labels go by name; padding is never counted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from cards.compare import pack_outcomes
from cards.data import TaskData
from cards.errors import EvaluationError
from cards.models import LoadedModel
from cards.results import Outcomes
from cards.suite import Metric, Task
from cards.windows import Window, cut_windows

__all__ = ["BATCH_SIZES", "Measurement", "check_labels", "score"]

BATCH_SIZES = {"image-classification": 32, "text-classification": 16, "perplexity": 4}
"""Rows (windows for perplexity) run at once when nothing else is asked for."""

_CHANNEL_MODES = {1: "L", 3: "RGB", 4: "RGBA"}


@dataclass(frozen=True)
class Measurement:
    """One metric's value; the rest as in `TaskResult`."""

    metric: Metric
    value: float
    stderr: float | None
    n: int
    higher_is_better: bool
    outcomes: Outcomes
    notes: tuple[str, ...] = ()


def score(loaded: LoadedModel, task: Task, data: TaskData, batch_size: int) -> list[Measurement]:
    """Run `task` on the model and compute its metrics.

    Raises `EvaluationError` naming model and task when labels do not match, when the tokenizer does not fit the
    model, and when the model's numbers are not finite.
    """
    if task.task == "perplexity":
        return _score_perplexity(loaded, task, data, batch_size)
    return [_score_classification(loaded, task, data, batch_size)]


def check_labels(loaded: LoadedModel, task: Task, data: TaskData) -> dict[str, int]:
    """Label name -> the model's output for it, from its config; refused when the data has a label the model lacks."""
    config = loaded.model.config
    where = _where(loaded, task)
    names = _outputs_by_name(config, where)
    lacking = [label for label in data.label_set if label not in names]
    if lacking:
        known = ", ".join(names)
        raise EvaluationError(
            f"the model has no label {', '.join(map(repr, lacking))}; its labels are {known}",
            where=where,
            hint="name the data's labels as the model does, or set id2label and label2id in the model's config.json",
        )
    if getattr(config, "problem_type", None) in {"multi_label_classification", "regression"}:
        what = f"the model's problem_type is {config.problem_type}, and {task.task} here is one label per sample"
        raise EvaluationError(what, where=where, hint="leave this task or this model out")
    return names


def _outputs_by_name(config: Any, where: str) -> dict[str, int]:
    names: dict[str, int] = {}
    for index, label in sorted((int(index), str(label)) for index, label in (config.id2label or {}).items()):
        if label in names:
            raise EvaluationError(
                f"two outputs of the model are labelled {label!r}", where=where, hint="mend id2label in its config.json"
            )
        names[label] = index
    declared: Mapping[str, int] = config.label2id or names
    if dict(declared) != names:
        what = "label2id and id2label of the model's config.json contradict each other"
        raise EvaluationError(what, where=where, hint="make one the inverse of the other")
    return names


def _score_classification(loaded: LoadedModel, task: Task, data: TaskData, batch_size: int) -> Measurement:
    from cards.metrics import compute

    outputs = check_labels(loaded, task, data)
    wanted = [outputs[label] for label in data.labels]
    predicted: list[int] = []
    for logits in _classifier_logits(loaded, task, data, batch_size):
        predicted.extend(logits.argmax(dim=-1).tolist())
    value, stderr = compute("accuracy", predicted, wanted)
    correct = [guess == truth for guess, truth in zip(predicted, wanted, strict=True)]
    return Measurement("accuracy", value, stderr, len(wanted), True, Outcomes(correct=pack_outcomes(correct)))


def _classifier_logits(loaded: LoadedModel, task: Task, data: TaskData, batch_size: int) -> Iterator[Any]:
    import torch

    processor = loaded.processor
    if task.task == "text-classification" and processor.pad_token is None:
        batch_size = 1  # without a padding token, texts of different lengths cannot share a batch
    for start in range(0, len(data.rows), batch_size):
        rows = _read_rows(data, start, start + batch_size, task)
        with _named_faults(loaded, task):
            if task.task == "image-classification":
                images = [_in_mode(image, loaded.model.config) for image in rows[task.image_column]]
                inputs = processor(images=images, return_tensors="pt")
            else:
                inputs = processor(
                    rows[task.text_column],
                    padding=batch_size > 1,
                    truncation=True,
                    max_length=task.max_length,
                    return_tensors="pt",
                )
                _check_token_ids(int(inputs["input_ids"].max()), loaded, task)
            moved = {name: _as_model(tensor, loaded) for name, tensor in inputs.items()}
            logits = loaded.model(**moved).logits.float()
        if not bool(torch.isfinite(logits).all()):
            raise _not_finite(loaded, task)
        yield logits


def _read_rows(data: TaskData, start: int, end: int, task: Task) -> Any:
    try:
        return data.rows[start:end]
    except (OSError, ValueError, SyntaxError) as error:  # what Pillow raises for files that are no pictures
        what = f"rows {start} to {min(end, len(data.rows)) - 1} cannot be read ({str(error).splitlines()[0]})"
        raise EvaluationError(what, where=f"task {task.name!r}", hint="mend or remove the file") from error


def _score_perplexity(loaded: LoadedModel, task: Task, data: TaskData, batch_size: int) -> list[Measurement]:
    from cards.metrics import compute

    texts = data.rows[task.text_column]
    windows, unknown = cut_windows(list(texts), loaded.processor, task.max_length, where=_where(loaded, task))
    _check_token_ids(max(max(window.tokens) for window in windows), loaded, task)
    _check_positions(loaded, task)
    losses: list[float] = []
    for start in range(0, len(windows), batch_size):
        with _named_faults(loaded, task):
            losses.extend(_window_losses(loaded, windows[start : start + batch_size]))
    if not all(loss < float("inf") for loss in losses):  # also false for NaN
        raise _not_finite(loaded, task)
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
            raise _not_finite(loaded, task)
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


def _as_model(tensor: Any, loaded: LoadedModel) -> Any:
    """The tensor on the model's device, and in its dtype when it holds real numbers."""
    return tensor.to(loaded.device, loaded.model.dtype) if tensor.is_floating_point() else tensor.to(loaded.device)


def _in_mode(image: Any, config: Any) -> Any:
    """The image with as many channels as the model takes."""
    mode = _CHANNEL_MODES.get(getattr(config, "num_channels", None) or 3, "RGB")
    return image if image.mode == mode else image.convert(mode)


def _check_token_ids(highest: int, loaded: LoadedModel, task: Task) -> None:
    rows = loaded.model.get_input_embeddings().weight.shape[0]
    if highest >= rows:
        raise EvaluationError(
            f"the tokenizer makes token {highest}, and the model has embeddings for 0 to {rows - 1}",
            where=_where(loaded, task),
            hint="the tokenizer belongs to another model; save the right one into the folder",
        )


def _check_positions(loaded: LoadedModel, task: Task) -> None:
    limit = getattr(loaded.model.config, "max_position_embeddings", None)
    if isinstance(limit, int) and 0 < limit < task.max_length:
        raise EvaluationError(
            f"windows of {task.max_length} tokens, and the model takes {limit}",
            where=_where(loaded, task),
            hint=f"set max_length: {limit} in this task; it applies to all models, so that they are comparable",
        )


def _where(loaded: LoadedModel, task: Task) -> str:
    return f"model {loaded.candidate.name}, task {task.name!r}"


def _not_finite(loaded: LoadedModel, task: Task) -> EvaluationError:
    hint = "the weights are broken or overflow in their dtype; `hubmerge verify` looks at a merge's"
    return EvaluationError("the model's outputs are not finite", where=_where(loaded, task), hint=hint)


@contextmanager
def _named_faults(loaded: LoadedModel, task: Task) -> Iterator[None]:
    """Turn what torch and transformers raise while a batch runs into an error that names model and task."""
    try:
        yield
    except (RuntimeError, ValueError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise EvaluationError(
            f"the model cannot run on this data ({first})",
            where=_where(loaded, task),
            hint="is this its own processor or tokenizer? out of memory: a smaller --batch-size",
        ) from error
