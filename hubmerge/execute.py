"""Plan -> bytes: runs every step once on a few threads, file after file.  There are no decisions left to take here."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from typing import Any

import numpy.typing as npt

from hubmerge.compiled_files import Target
from hubmerge.compute import Output, compute
from hubmerge.io.input_files import InputFiles
from hubmerge.io.journal import Piece
from hubmerge.io.workspace import CHUNK, StoppedError, Workspace
from hubmerge.plan_types import Plan, Step
from hubmerge.prologue import known_of, pooled_states
from zoo_index.tensors import TensorMeta

__all__ = ["Sink", "execute", "piece_bytes", "pieces"]

Sink = Callable[[Step, int, npt.NDArray[Any]], None]
"""Takes a step, the index of the first entry, and the entries as stored; called from any thread, in any order."""

_PIECE = 16 * CHUNK
_WINDOW = 1 << 28
"""Bytes of output whose tensors are taken largest first; windows follow one another in the order of the files."""


def pieces(plan: Plan) -> Iterator[Piece]:
    """Units of work, in the order they are taken: whole tensors, or runs of chunks where a step may be cut anywhere.

    They depend on nothing but the plan.  Files are finished one after the other, so that their digests can follow.  Large
    tensors that cannot be cut come first, so that no worker is left alone with one at the end.
    """
    order = sorted(range(len(plan.steps)), key=lambda i: (plan.steps[i].output.file, plan.steps[i].output.start))
    large = [i for i in order if plan.steps[i].output.nbytes >= _WINDOW and not _can_be_cut(plan, plan.steps[i])]
    yield from _largest_first(plan, large)
    window: list[int] = []
    size = 0
    for i in order:
        if i in large:
            continue
        window.append(i)
        size += plan.steps[i].output.nbytes
        if size >= _WINDOW:
            yield from _largest_first(plan, window)
            window, size = [], 0
    yield from _largest_first(plan, window)


def _can_be_cut(plan: Plan, step: Step) -> bool:
    return step.action in {"average", "copy"} or (
        step.action == "merge" and plan.method.of_tensor(step.values).scope == "entry"
    )


def _largest_first(plan: Plan, window: list[int]) -> Iterator[Piece]:
    for i in sorted(window, key=lambda i: -plan.steps[i].output.numel * len(plan.steps[i].inputs)):
        step = plan.steps[i]
        size = step.output.numel
        if _can_be_cut(plan, step):
            for start in range(0, size, _PIECE):
                yield Piece(i, start, min(start + _PIECE, size))
        elif size:
            yield Piece(i, 0, size)


def piece_bytes(plan: Plan, piece: Piece) -> tuple[str, int, int]:
    """Where a piece's output lies: file, first byte, end."""
    output = plan.steps[piece.step].output
    width = output.nbytes // output.numel
    return output.file, output.start + piece.start * width, output.start + piece.stop * width


def execute(
    plan: Plan,
    sink: Sink,
    *,
    jobs: int | None = None,
    progress: Callable[[int], None] = lambda _: None,
    inputs: InputFiles | None = None,
    done: Collection[Piece] = (),
    finished: Callable[[Piece], None] | None = None,
    pools: Mapping[str, Any] | None = None,
    device: str = "cpu",
    target: Callable[[TensorMeta], Target] | None = None,
) -> None:
    """Compute every tensor of the plan and hand it to `sink`.

    The bytes do not depend on `jobs` (default: the plan's).  progress is called with the bytes of output done since the
    last call.  inputs: where the parents' numbers are, default the files that the plan names.  done: pieces that are left
    out; finished is called, by the thread that computed it, when the whole of a piece was handed over.
    pools: what `pooled_states` gives for the plan, found here when it is not given.
    device: the torch device of matrix methods.  target: where a tensor may be written instead of being handed to `sink`.

    An error stops the others within a chunk; the first of the plan's order is raised.  So does an interruption.
    """
    local = threading.local()
    stop = threading.Event()

    assert plan.prepared is not None or plan.method.wrapper is None  # `hubmerge.prepare` comes first
    with inputs or InputFiles(plan.parents) as files:
        known = known_of(plan, pooled_states(plan, files, jobs or plan.jobs) if pools is None else pools)

        def work(piece: Piece) -> None:
            if stop.is_set():
                return
            if not hasattr(local, "workspace"):
                local.workspace = Workspace(stop)
            step = plan.steps[piece.step]

            def emit(first: int, entries: npt.NDArray[Any]) -> None:
                sink(step, first, entries)
                progress(entries.nbytes)

            try:
                output = None if target is None else Output(target(step.output), progress)
                compute(step, plan.method, files, local.workspace, emit, piece.start, piece.stop, known, device, output)
                if finished is not None:
                    finished(piece)
            except BaseException:
                stop.set()
                raise

        with ThreadPoolExecutor(jobs or plan.jobs, thread_name_prefix="merge") as pool:
            futures: list[Future[None]] = []
            try:
                futures += [pool.submit(work, piece) for piece in pieces(plan) if piece not in done]
                wait(futures, return_when=FIRST_EXCEPTION)
            except BaseException:
                stop.set()
                raise
    _raise_first(futures)


def _raise_first(futures: list[Future[None]]) -> None:
    """Raise the first error of the order of work; that a thread was stopped is none."""
    errors = [error for future in futures if (error := future.exception()) is not None]
    for error in errors:
        if not isinstance(error, StoppedError):
            raise error
