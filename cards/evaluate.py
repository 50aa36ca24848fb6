"""`evaluate`: several models on the tasks of one suite -> `Results`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from cards.data import TaskData, open_task_data
from cards.ensemble import find_members, score_ensemble
from cards.heads import Head, find_heads, load_heads
from cards.joint import JointTask, joint_results, open_joint
from cards.measurement import Measurement, Scored
from cards.models import Candidate, LoadedModel, find_candidates, load_model, quiet_libraries
from cards.results import ModelResult, Results, SuiteIdentity, TaskResult
from cards.scoring import rows_at_once, score
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
    An ensemble of the suite's joint measurement is one model more, the last.

    Raises `SuiteError`, `EvaluationError` or an error of `zoo_index` for anything that would make a number meaningless.
    """
    suite = suite if isinstance(suite, Suite) else load_suite(suite)
    say = report or _say_nothing
    candidates = find_candidates(models)
    named_heads, members = find_heads(suite), find_members(suite)
    with ExitStack() as stack:
        stack.enter_context(quiet_libraries())
        data = [stack.enter_context(open_task_data(suite, task)) for task in suite.tasks]
        joint = open_joint(suite, data)
        stack.enter_context(_deterministic(suite.seed))
        heads = load_heads(named_heads, suite.tasks, device)
        run = _Run(suite, dict(zip((task.name for task in suite.tasks), data, strict=True)), heads, joint, batch_size)
        scored = [_evaluate_one(candidate, run, device=device, say=say) for candidate in candidates]
        results = [result for result, _ in scored]
        if joint is not None and members:
            names = [result.name for result in results]
            results.append(score_ensemble(joint, members, names=names, batch_size=batch_size, device=device, say=say))
            _tell(results[-1].name, results[-1].tasks, say)
    return Results(
        suite=SuiteIdentity(name=suite.name, seed=suite.seed, sha256=suite.sha256),
        device=scored[0][1],
        versions={name: version(name) for name in _VERSIONS},
        models=tuple(results),
    )


@dataclass(frozen=True)
class _Run:
    """What is the same for every model.  data: by the task's name; heads: by the name that tasks give them."""

    suite: Suite
    data: Mapping[str, TaskData]
    heads: Mapping[str, Head]
    joint: JointTask | None
    batch_size: int | None


def _say_nothing(_line: str) -> None:
    pass


def _tell(model: str, results: Sequence[TaskResult], say: Callable[[str], None]) -> None:
    for result in results:
        say(f"{model}: {result.name}: {result.metric} {result.value:.4g} in {result.seconds:.1f} s")


def _evaluate_one(
    candidate: Candidate, run: _Run, *, device: str, say: Callable[[str], None]
) -> tuple[ModelResult, str]:
    """One model on all tasks, and the device it ran on."""
    started = time.perf_counter()
    found: dict[str, list[TaskResult]] = {}
    ranks: dict[str, tuple[int, ...]] = {}
    loaded: LoadedModel | None = None
    tasks = run.suite.tasks
    # tasks of one kind together, so that each head is loaded once and only one is in memory
    for task in sorted(tasks, key=lambda task: task.task):
        if loaded is None or loaded.kind != task.task:
            loaded = None
            say(f"{candidate.name}: loading for {task.task}")
            own_head = any(each.head is None for each in tasks if each.task == task.task)
            loaded = load_model(candidate, task.task, device, own_head=own_head)
        found[task.name], ranks[task.name] = _run_task(loaded, run, task)
        _tell(candidate.name, found[task.name], say)
    together = _joint_results(run, found, ranks)
    _tell(candidate.name, together, say)
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
        tasks=(*(result for task in tasks for result in found[task.name]), *together),
    )
    return model, str(loaded.device)


def _run_task(loaded: LoadedModel, run: _Run, task: Task) -> tuple[list[TaskResult], tuple[int, ...]]:
    """The results of one task, and the ranks of its rows for the joint measurement."""
    import torch

    data = run.data[task.name]
    started = time.perf_counter()
    with torch.inference_mode():
        scored: Scored = score(loaded, task, data, rows_at_once(task, run.batch_size), heads=run.heads, joint=run.joint)
    seconds = round(time.perf_counter() - started, 3)
    return [_task_result(loaded, run, task, data, each, seconds=seconds) for each in scored.measurements], scored.ranks


def _joint_results(
    run: _Run, found: Mapping[str, Sequence[TaskResult]], ranks: Mapping[str, tuple[int, ...]]
) -> list[TaskResult]:
    """The tasks of the joint measurement as one, from the ranks that their runs gave."""
    if run.joint is None:
        return []
    parts = [found[task.name][0] for task in run.joint.tasks]
    return joint_results(
        run.joint,
        [ranks[task.name] for task in run.joint.tasks],
        heads=tuple(head for part in parts for head in part.heads),
        seconds=round(sum(part.seconds for part in parts), 3),
        notes=tuple(dict.fromkeys(note for part in parts for note in part.notes)),
    )


def _task_result(
    loaded: LoadedModel, run: _Run, task: Task, data: TaskData, measured: Measurement, *, seconds: float
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
        seed=run.suite.seed,
        data=Path(task.data).name,
        split=task.split,
        data_sha256=data.sha256,
        labels=data.label_set,
        heads=(run.heads[task.head].name,) if task.head else (),
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
