"""The floor: what a merge would cost if it had nothing to compute.  `python -m benchmarks.engine.floor` measures it alone.

Every input is read once, whatever the number of passes a method makes, and an output of one input's size is written,
512 KiB at a time, by as many threads as the merge has; the space is reserved as the merge reserves it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.engine.measuring import cost_of, median
from benchmarks.engine.models import SIZES, make_models
from benchmarks.engine.options import Options, parser
from benchmarks.engine.report import Report

__all__ = ["CHUNK", "cores", "floor", "main", "weight_files"]

CHUNK = 1 << 19
_PIECE = 16 * CHUNK
"""Bytes that one thread takes at a time, as the engine's workers take runs of chunks."""


def cores() -> int:
    """The cores this process may use: the engine's default number of workers."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def weight_files(folders: Sequence[Path]) -> list[Path]:
    return [folder / "model.safetensors" for folder in folders]


def floor(inputs: Sequence[Path], output: Path, jobs: int) -> None:
    """Read every file of `inputs`, of one length, and write a file of that length."""
    size = inputs[0].stat().st_size
    sources = [os.open(path, os.O_RDONLY) for path in inputs]
    target = os.open(output, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
    os.posix_fallocate(target, 0, size)

    def work(worker: int) -> None:
        buffers = [memoryview(bytearray(CHUNK)) for _ in sources]
        for piece in range(worker * _PIECE, size, jobs * _PIECE):
            for offset in range(piece, min(piece + _PIECE, size), CHUNK):
                count = min(CHUNK, size - offset)
                for source, buffer in zip(sources, buffers, strict=True):
                    os.preadv(source, [buffer[:count]], offset)
                os.pwrite(target, buffers[0][:count], offset)

    try:
        with ThreadPoolExecutor(jobs) as pool:
            list(pool.map(work, range(jobs)))
    finally:
        for descriptor in (*sources, target):
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
        for folders in (models.parents, (models.base, *models.parents)):
            costs = []
            for _ in range(given.pairs + 1):
                costs.append(cost_of(lambda folders=folders: floor(weight_files(folders), scratch / "floor", jobs)))  # type: ignore[misc]
                (scratch / "floor").unlink()
            costs = costs[1:]  # the first fills the page cache
            row = (len(folders), f"{median(c.wall for c in costs):.2f}", f"{median(c.cpu for c in costs):.2f}")
            report.add(row, inputs=len(folders), costs=costs)
    report.save(options.results)


if __name__ == "__main__":
    main()
