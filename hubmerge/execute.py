"""Plan -> bytes: runs every step once, largest first, on a few threads.  There are no decisions left to take here."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from typing import Any

import numpy.typing as npt

from hubmerge.compute import compute
from hubmerge.io.reader import CHUNK, InputFiles, Workspace
from hubmerge.plan_types import Plan, Step

__all__ = ["Sink", "execute"]

Sink = Callable[[Step, int, npt.NDArray[Any]], None]
"""Takes a step, the index of the first entry, and the entries as stored; called from any thread, in any order."""

_PIECE = 16 * CHUNK


def _pieces(plan: Plan) -> Iterator[tuple[Step, int, int]]:
    """Units of work: whole tensors, or runs of chunks where a step may be cut anywhere."""
    for step in sorted(plan.steps, key=lambda step: -step.output.numel * len(step.inputs)):
        size = step.output.numel
        if step.action in {"average", "copy"} or (step.action == "merge" and plan.method.scope == "entry"):
            for start in range(0, size, _PIECE):
                yield step, start, min(start + _PIECE, size)
        elif size:
            yield step, 0, size


def execute(
    plan: Plan,
    sink: Sink,
    *,
    jobs: int | None = None,
    progress: Callable[[int], None] | None = None,
    inputs: InputFiles | None = None,
) -> None:
    """Compute every tensor of the plan and hand it to `sink`.

    The bytes do not depend on `jobs` (default: the plan's).  inputs: where the parents' numbers are, default the files
    that the plan names.  progress is called with the bytes of output done since the
    last call.  An error stops the others; the first of the plan's order is raised.
    """
    local = threading.local()
    stop = threading.Event()

    with inputs or InputFiles(plan.parents) as files:

        def work(step: Step, start: int, end: int) -> None:
            if stop.is_set():
                return
            if not hasattr(local, "workspace"):
                local.workspace = Workspace()

            def emit(first: int, entries: npt.NDArray[Any]) -> None:
                sink(step, first, entries)
                if progress is not None:
                    progress(entries.nbytes)

            try:
                compute(step, plan.method, files, local.workspace, emit, start, end)
            except BaseException:
                stop.set()
                raise

        with ThreadPoolExecutor(jobs or plan.jobs, thread_name_prefix="merge") as pool:
            futures: list[Future[None]] = [pool.submit(work, *piece) for piece in _pieces(plan)]
            try:
                wait(futures, return_when=FIRST_EXCEPTION)
            except BaseException:
                stop.set()
                raise
        for future in futures:
            future.result()
