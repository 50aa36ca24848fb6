"""What can go wrong while a model runs on a task, as errors that name both."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from cards.errors import EvaluationError
from cards.models import LoadedModel
from cards.suite import Task

__all__ = ["check_token_ids", "named_faults", "not_finite", "place_of"]


def place_of(loaded: LoadedModel, task: Task) -> str:
    """The ``where`` of an error."""
    return f"model {loaded.candidate.name}, task {task.name!r}"


def not_finite(loaded: LoadedModel, task: Task) -> EvaluationError:
    """The error for outputs that are infinite or no numbers."""
    hint = "the weights are broken or overflow in their dtype; `hubmerge verify` looks at a merge's"
    return EvaluationError("the model's outputs are not finite", where=place_of(loaded, task), hint=hint)


def check_token_ids(highest: int, loaded: LoadedModel, task: Task) -> None:
    """Refuse a tokenizer that makes tokens for which the model has no embedding."""
    rows = loaded.model.get_input_embeddings().weight.shape[0]
    if highest >= rows:
        raise EvaluationError(
            f"the tokenizer makes token {highest}, and the model has embeddings for 0 to {rows - 1}",
            where=place_of(loaded, task),
            hint="the tokenizer belongs to another model; save the right one into the folder",
        )


@contextmanager
def named_faults(loaded: LoadedModel, task: Task) -> Iterator[None]:
    """Turn what torch and transformers raise while a batch runs into an error that names model and task."""
    try:
        yield
    except (RuntimeError, ValueError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise EvaluationError(
            f"the model cannot run on this data ({first})",
            where=place_of(loaded, task),
            hint="is this its own processor or tokenizer? out of memory: a smaller --batch-size",
        ) from error
