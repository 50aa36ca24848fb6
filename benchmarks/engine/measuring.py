"""Time and memory of a piece of work, in this process or of a command with all its children."""

from __future__ import annotations

import os
import resource
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Cost", "Pair", "cost_of", "cost_of_command", "interleaved", "median", "ratio", "remove"]


@dataclass(frozen=True)
class Cost:
    """Seconds of the clock; seconds of processor time, user and system, all threads and children; peak RSS in bytes.

    The peak is known of commands only: of the largest process when a command has several.
    """

    wall: float
    cpu: float
    peak: int | None = None


@dataclass(frozen=True)
class Pair:
    """Two costs taken one right after the other."""

    ours: Cost
    other: Cost


def cost_of(work: Callable[[], object]) -> Cost:
    """Run `work` in this process."""
    before = resource.getrusage(resource.RUSAGE_SELF)
    begun = time.perf_counter()
    work()
    wall = time.perf_counter() - begun
    after = resource.getrusage(resource.RUSAGE_SELF)
    return Cost(wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def cost_of_command(command: Sequence[str | Path], log: Path, environment: Mapping[str, str] | None = None) -> Cost:
    """Run a command to its end; `environment` is added to this one.

    Raises RuntimeError with the last lines of its output, which goes to `log`, when it fails.
    """
    with log.open("wb") as output:
        begun = time.perf_counter()
        process = subprocess.Popen(
            list(map(str, command)), stdout=output, stderr=output, env={**os.environ, **(environment or {})}
        )
        _, status, used = os.wait4(process.pid, 0)
        wall = time.perf_counter() - begun
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:]
        raise RuntimeError(f"{command[0]} ended with {process.returncode}:\n" + "\n".join(lines))
    return Cost(wall, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024)


def interleaved(
    ours: Callable[[], Cost], other: Callable[[], Cost], pairs: int, between: Callable[[], None]
) -> list[Pair]:
    """Measure both `pairs` times, each pair in the other order than the one before; `between` cleans up, unmeasured."""
    measured = []
    for number in range(pairs):
        costs = {}
        for which in ("ours", "other") if number % 2 else ("other", "ours"):
            costs[which] = (ours if which == "ours" else other)()
            between()
        measured.append(Pair(**costs))
    return measured


def ratio(pairs: Sequence[Pair], what: str = "cpu") -> float:
    """The median over pairs of ours divided by the other."""
    return median(getattr(pair.ours, what) / getattr(pair.other, what) for pair in pairs)


def median(values: Iterable[float]) -> float:
    return statistics.median(list(values))


def remove(folder: Path) -> None:
    """Remove an output and what an interrupted merge leaves beside it."""
    for path in (folder, folder.with_name(folder.name + ".partial")):
        shutil.rmtree(path, ignore_errors=True)
