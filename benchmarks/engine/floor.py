"""The floor: what a merge would cost if it had nothing to compute.  `python -m benchmarks.engine.floor` measures it alone.

Every input is read once, whatever the number of passes a method makes, and an output of one input's size is written,
512 KiB at a time, by as many threads as the merge has; the space is reserved as the merge reserves it.  The tensors begin where
they begin in the merge's output, and every buffer at the byte of a cache line at which its place in the file begins (the
first input's at the output's, which is written from it), as the engine's do: that alone was seen to change the processor time
of the same writes from 1 to 3.5 s.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.engine.measuring import cost_of, median
from benchmarks.engine.models import SIZES, make_models
from benchmarks.engine.options import Options, parser
from benchmarks.engine.recipes import inputs, recipe
from benchmarks.engine.report import Report
from hubmerge.io.workspace import Workspace
from hubmerge.plan import build_plan

__all__ = ["CHUNK", "cores", "floor", "floor_of", "main"]

CHUNK = 1 << 19
_PIECE = 16 * CHUNK
"""Bytes that one thread takes at a time, as the engine's workers take runs of chunks."""


def cores() -> int:
    """The cores this process may use: the engine's default number of workers."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def floor_of(recipe: Mapping[str, Any], output: Path, jobs: int) -> Callable[[], None]:
    """The floor of a merge by `recipe` of models in single files: reads what it reads, writes as many bytes to `output`."""
    start = len(next(iter(build_plan(recipe).layout.headers.values())))
    files = [folder / "model.safetensors" for folder in inputs(recipe)]
    return lambda: floor(files, output, jobs, start)


def floor(sources: Sequence[Path], output: Path, jobs: int, start: int) -> None:
    """Read the tensors of every file of `sources`, as many bytes in each, and write as many, from byte `start` on."""
    opened = [os.open(path, os.O_RDONLY) for path in sources]
    places = [(descriptor, 8 + int.from_bytes(os.pread(descriptor, 8, 0), "little")) for descriptor in opened]
    size = os.fstat(opened[0]).st_size - places[0][1]
    target = os.open(output, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
    os.posix_fallocate(target, 0, start + size)

    def work(worker: int) -> None:
        workspace = Workspace()
        for piece in range(worker * _PIECE, size, jobs * _PIECE):
            for offset in range(piece, min(piece + _PIECE, size), CHUNK):
                count = min(CHUNK, size - offset)
                for number, (descriptor, first) in enumerate(places):
                    buffer = workspace.take(str(number), "u1", count, first + offset if number else start + offset)
                    os.preadv(descriptor, [buffer.data], first + offset)
                os.pwrite(target, workspace.take("0", "u1", count, start + offset).data, start + offset)

    try:
        with ThreadPoolExecutor(jobs) as pool:
            list(pool.map(work, range(jobs)))
    finally:
        for descriptor in (*opened, target):
            os.close(descriptor)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the floor for two and for three inputs."""
    commands = parser(__doc__)
    commands.add_argument("--size", choices=[name for name in SIZES if name != "30"], default="1.1")
    commands.add_argument("--pairs", type=int, default=5, help="repetitions")
    given = commands.parse_args(arguments)
    options, jobs = Options.of(given), cores()
    models = make_models(options, given.size)
    report = Report(
        "floor",
        "The floor: every input read once and one output written, without arithmetic",
        f"{models.size.parameters:,} bfloat16 parameters each, from the page cache, {jobs} threads; medians.",
        ("inputs", "wall s", "CPU s"),
        {"size": given.size, "pairs": given.pairs, "jobs": jobs},
    )
    with options.scratch() as scratch:
        for method in ("linear", "task_arithmetic"):
            content = recipe(method, models.base, models.parents)
            work = floor_of(content, scratch / "floor", jobs)
            costs = []
            for _ in range(given.pairs + 1):
                costs.append(cost_of(work))
                (scratch / "floor").unlink()
            costs = costs[1:]  # the first fills the page cache
            row = (len(inputs(content)), f"{median(c.wall for c in costs):.2f}", f"{median(c.cpu for c in costs):.2f}")
            report.add(row, inputs=row[0], costs=costs)
    report.save(options.results)


if __name__ == "__main__":
    main()
