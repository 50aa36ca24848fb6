"""What the commands of these benchmarks are told: which seeds, where trained parents lie, how many processes."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

from benchmarks.heterogeneous.settings import SEEDS

__all__ = ["in_processes", "parser"]

Job = TypeVar("Job")
Result = TypeVar("Result")


def parser(description: str | None) -> argparse.ArgumentParser:
    """A parser with the shared options; `description` is the module's docstring, of which the first paragraph is shown."""
    commands = argparse.ArgumentParser(description=(description or "").split("\n\n", maxsplit=1)[0])
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "hubmerge-benchmarks"
    commands.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    commands.add_argument(
        "--cache",
        type=Path,
        default=Path(os.environ.get("HUBMERGE_BENCH_MODELS") or cache) / "heterogeneous",
        help="folder of the trained parents (heterogeneous in HUBMERGE_BENCH_MODELS)",
    )
    commands.add_argument("--processes", type=int, default=2, help="each works with one thread")
    return commands


def in_processes(work: Callable[[Job], Result], jobs: Sequence[Job], processes: int) -> Iterator[tuple[Job, Result]]:
    """Do `work` for every job, each on one thread; jobs and results as they are finished.

    Models this small train faster on one thread, and on one thread the same machine gives the same numbers.  With one
    process it is this one.
    """
    if processes == 1:
        _prepare()
        yield from ((job, work(job)) for job in jobs)
        return
    with ProcessPoolExecutor(processes, get_context("spawn"), initializer=_prepare) as pool:
        futures = {pool.submit(work, job): job for job in jobs}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _prepare() -> None:
    """One thread, and no bars while models of a few hundred kilobytes are read and written."""
    import torch
    from transformers.utils import logging

    torch.set_num_threads(1)
    logging.disable_progress_bar()
