"""`evaluate`: several models on the tasks of one suite -> `Results`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from pathlib import Path

from cards.data import TaskData, open_task_data
from cards.models import Candidate, LoadedModel, find_candidates, load_model, quiet_libraries
from cards.results import ModelResult, Results, SuiteIdentity, TaskResult
from cards.scoring import BATCH_SIZES, Measurement, score
from cards.suite import Suite, Task, load_suite

__all__ = ["evaluate"]

_VERSIONS = ("hubmerge", "torch", "transformers", "tokenizers", "datasets", "evaluate", "accelerate", "peft")


def evaluate(
    models: Sequence[str | Path],
    suite: Suite | str | Path,
    *,
    batch_size: int | None = None,
    device: str = "auto",
    report: Callable[[str], None] | None = None,
) -> Results:
    """Run every task of `suite` on every model.

    models: references (``org/name`` from the local Hub cache, ``./folder``, ``base+adapter``) or paths of folders.
    suite: a `Suite`, or the path of a suite file.  batch_size: overrides the suite's.  device: a torch device, or
    ``auto`` for the one that accelerate picks.  report: called with one line for every step.

    Every model runs in the dtype it is stored in, without gradients, in evaluation mode, on the same rows.  It is
    loaded once for all tasks of a kind.  All data and all models' headers are looked at before any model is loaded.

    Raises `SuiteError`, `EvaluationError` or an error of `zoo_index` for anything that would make a number meaningless.
    """
    suite = suite if isinstance(suite, Suite) else load_suite(suite)
    say = report or _say_nothing
    candidates = find_candidates(models)
    with ExitStack() as stack:
        stack.enter_context(quiet_libraries())
        data = [stack.enter_context(open_task_data(suite, task)) for task in suite.tasks]
        stack.enter_context(_deterministic(suite.seed))
        scored = [
            _evaluate_one(candidate, suite, data, batch_size=batch_size, device=device, say=say)
            for candidate in candidates
        ]
    return Results(
        suite=SuiteIdentity(name=suite.name, seed=suite.seed, sha256=suite.sha256),
        device=scored[0][1],
        versions={name: version(name) for name in _VERSIONS},
        models=tuple(result for result, _ in scored),
    )


def _say_nothing(_line: str) -> None:
    pass


def _evaluate_one(
    candidate: Candidate,
    suite: Suite,
    data: list[TaskData],
    *,
    batch_size: int | None,
    device: str,
    say: Callable[[str], None],
) -> tuple[ModelResult, str]:
    """One model on all tasks, and the device it ran on."""
    started = time.perf_counter()
    found: dict[str, list[TaskResult]] = {}
    loaded: LoadedModel | None = None
    # tasks of one kind together, so that each head is loaded once and only one is in memory
    for task, rows in sorted(zip(suite.tasks, data, strict=True), key=lambda pair: pair[0].task):
        if loaded is None or loaded.kind != task.task:
            loaded = None
            say(f"{candidate.name}: loading for {task.task}")
            loaded = load_model(candidate, task.task, device)
        found[task.name] = _run_task(loaded, suite, task, rows, batch_size)
        for result in found[task.name]:
            say(f"{candidate.name}: {task.name}: {result.metric} {result.value:.4g} in {result.seconds:.1f} s")
    assert loaded is not None
    model = ModelResult(
        model=candidate.named,
        name=candidate.name,
        merge=candidate.merge,
        commit=candidate.source.pinned.commit,
        parameters=candidate.parameters,
        size_bytes=candidate.size_bytes,
        dtype=str(loaded.model.dtype).removeprefix("torch."),
        seconds=round(time.perf_counter() - started, 3),
        tasks=tuple(result for task in suite.tasks for result in found[task.name]),
    )
    return model, str(loaded.device)


def _run_task(
    loaded: LoadedModel, suite: Suite, task: Task, data: TaskData, batch_size: int | None
) -> list[TaskResult]:
    import torch

    started = time.perf_counter()
    with torch.inference_mode():
        measured = score(loaded, task, data, batch_size or task.batch_size or BATCH_SIZES[task.task])
    seconds = round(time.perf_counter() - started, 3)
    return [_task_result(loaded, suite, task, data, measurement, seconds=seconds) for measurement in measured]


def _task_result(
    loaded: LoadedModel, suite: Suite, task: Task, data: TaskData, measured: Measurement, *, seconds: float
) -> TaskResult:
    notes = list(measured.notes)
    if loaded.unused:
        shown = ", ".join(loaded.unused[:3]) + (" and others" if len(loaded.unused) > 3 else "")
        notes.append(f"{len(loaded.unused)} tensors of the model's files were not used: {shown}")
    return TaskResult(
        name=task.name,
        task=task.task,
        metric=measured.metric,
        value=measured.value,
        stderr=measured.stderr,
        n=measured.n,
        higher_is_better=measured.higher_is_better,
        seed=suite.seed,
        data=Path(task.data).name,
        split=task.split,
        data_sha256=data.sha256,
        labels=data.label_set,
        seconds=seconds,
        notes=tuple(notes),
        outcomes=measured.outcomes,
    )


@contextmanager
def _deterministic(seed: int) -> Iterator[None]:
    """Seeded, and with deterministic kernels where torch has them; the caller's setting comes back afterwards."""
    import torch
    from accelerate.utils import set_seed

    before, warn_only = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    set_seed(seed)
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warn_only)
