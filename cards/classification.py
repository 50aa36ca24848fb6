"""A loaded classifier on the rows of one task: which rows it gets right.  Labels go by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cards.data import TaskData
from cards.errors import EvaluationError
from cards.heads import Head, fitted
from cards.models import LoadedModel
from cards.scoring_faults import check_token_ids, named_faults, not_finite, place_of
from cards.suite import Task
from cards.trunk import logits_under, plain_model

__all__ = ["Answers", "Readout", "check_labels", "run_classifier"]

_CHANNEL_MODES = {1: "L", 3: "RGB", 4: "RGBA"}


@dataclass(frozen=True)
class Readout:
    """One head of a model and the names of its outputs.  modules: of another model's head, None for the model's own."""

    outputs: Mapping[str, int]
    modules: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Answers:
    """The logits of a batch of rows under every readout, each (rows, outputs) in float32, and which rows they are."""

    rows: slice
    logits: tuple[Any, ...]


def check_labels(loaded: LoadedModel, task: Task, labels: Sequence[str], head: Head | None = None) -> Readout:
    """The head that `task` is read from (the model's own without `head`), with its outputs by label name.

    labels: the label names of the data.  Raises `EvaluationError` when the head lacks one and the task does not count
    such rows as wrong, when its config contradicts itself, and when it is no head for one label per sample.
    """
    config = head.config if head else loaded.model.config
    where = place_of(loaded, task)
    subject = f"the head of {head.name}" if head else "the model"
    names = _outputs_by_name(config, subject, where)
    lacking = [label for label in labels if label not in names]
    if lacking and task.unknown_labels == "refuse":
        known = ", ".join(names)
        raise EvaluationError(
            f"{subject} has no label {', '.join(map(repr, lacking))}; its labels are {known}",
            where=where,
            hint="name the data's labels as the model does, or set id2label and label2id in the model's config.json",
        )
    if getattr(config, "problem_type", None) in {"multi_label_classification", "regression"}:
        what = f"{subject}'s problem_type is {config.problem_type}, and {task.task} here is one label per sample"
        raise EvaluationError(what, where=where, hint="leave this task or this model out")
    return Readout(names, fitted(head, loaded, where) if head else None)


def _outputs_by_name(config: Any, subject: str, where: str) -> dict[str, int]:
    names: dict[str, int] = {}
    for index, label in sorted((int(index), str(label)) for index, label in (config.id2label or {}).items()):
        if label in names:
            raise EvaluationError(
                f"two outputs of {subject} are labelled {label!r}", where=where, hint="mend id2label in its config.json"
            )
        names[label] = index
    declared: Mapping[str, int] = config.label2id or names
    if dict(declared) != names:
        what = f"label2id and id2label of {subject}'s config.json contradict each other"
        raise EvaluationError(what, where=where, hint="make one the inverse of the other")
    return names


def run_classifier(
    loaded: LoadedModel, task: Task, data: TaskData, batch_size: int, readouts: Sequence[Readout]
) -> Iterator[Answers]:
    """The logits of all rows, batch by batch in their order; the trunk of the model runs once for all readouts.

    Raises `EvaluationError` for rows that cannot be read, a tokenizer that does not fit, and logits that are not finite.
    """
    import torch

    heads = {id(readout.modules): readout.modules for readout in readouts}
    model = loaded.model if list(heads.values()) == [None] else plain_model(loaded.model)
    if task.task == "text-classification" and loaded.processor.pad_token is None:
        batch_size = 1  # without a padding token, texts of different lengths cannot share a batch
    for start in range(0, len(data.rows), batch_size):
        rows = _read_rows(data, start, start + batch_size, task)
        with named_faults(loaded, task):
            inputs = _inputs(loaded, task, rows, padding=batch_size > 1)
            logits = dict(zip(heads, logits_under(model, list(heads.values()), inputs), strict=True))
        if not all(bool(torch.isfinite(found).all()) for found in logits.values()):
            raise not_finite(loaded, task)
        found = tuple(logits[id(readout.modules)].float() for readout in readouts)
        yield Answers(slice(start, start + len(found[0])), found)


def _inputs(loaded: LoadedModel, task: Task, rows: Any, *, padding: bool) -> dict[str, Any]:
    if task.task == "image-classification":
        images = [_in_mode(image, loaded.model.config) for image in rows[task.image_column]]
        inputs = loaded.processor(images=images, return_tensors="pt")
    else:
        inputs = loaded.processor(
            rows[task.text_column], padding=padding, truncation=True, max_length=task.max_length, return_tensors="pt"
        )
        check_token_ids(int(inputs["input_ids"].max()), loaded, task)
    return {name: _as_model(tensor, loaded) for name, tensor in inputs.items()}


def _read_rows(data: TaskData, start: int, end: int, task: Task) -> Any:
    try:
        return data.rows[start:end]
    except (OSError, ValueError, SyntaxError) as error:  # what Pillow raises for files that are no pictures
        what = f"rows {start} to {min(end, len(data.rows)) - 1} cannot be read ({str(error).splitlines()[0]})"
        raise EvaluationError(what, where=f"task {task.name!r}", hint="mend or remove the file") from error


def _as_model(tensor: Any, loaded: LoadedModel) -> Any:
    """The tensor on the model's device, and in its dtype when it holds real numbers."""
    return tensor.to(loaded.device, loaded.model.dtype) if tensor.is_floating_point() else tensor.to(loaded.device)


def _in_mode(image: Any, config: Any) -> Any:
    """The image with as many channels as the model takes."""
    mode = _CHANNEL_MODES.get(getattr(config, "num_channels", None) or 3, "RGB")
    return image if image.mode == mode else image.convert(mode)
