"""What digests cost: `python -m benchmarks.engine.digests`.

The same merge in process with digests and without, in turn: the processor time they add for each GB written; and the tail,
from the last merged bytes to the last digest, as the command prints it, beside the time that one thread needs to hash the
largest file.  How long it takes from the last merged bytes to the manifest, which comes after both, is watched from outside.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.engine.floor import cores
from benchmarks.engine.measuring import Cost, cost_of, interleaved, median, remove
from benchmarks.engine.models import SIZES, Models, make_models
from benchmarks.engine.options import Options, parser
from benchmarks.engine.recipes import entrywise_methods, recipe
from benchmarks.engine.report import Report, verdict
from hubmerge.assemble import merge_plan
from hubmerge.plan import build_plan

__all__ = ["TARGET", "main"]

TARGET = 0.9
"""CPU seconds per GB, at most."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure one large file and several small ones."""
    commands = parser(__doc__)
    commands.add_argument("--size", choices=[name for name in SIZES if name != "30"], default="1.1")
    commands.add_argument("--pairs", type=int, default=5)
    commands.add_argument("--methods", nargs="+", choices=entrywise_methods(), default=("linear", "ties"))
    commands.add_argument("--shards", nargs="+", default=("5GB", "500MB"), help="shard sizes")
    commands.add_argument("--jobs", type=int, default=cores(), help="worker threads")
    given = commands.parse_args(arguments)
    options = Options.of(given)
    models = make_models(options, given.size)
    report = Report(
        "digests",
        "What digests cost",
        f"Merging models of {models.size.parameters:,} bfloat16 parameters in process with {given.jobs} threads, with digests and "
        f"without. The tail runs from the last merged bytes to the last digest, and may take as long as one thread hashes the "
        f"largest file. Medians of {given.pairs} pairs; CPU per GB is the "
        "median difference of a pair.",
        (
            "method",
            "files",
            "CPU s per GB",
            "to reach",
            "",
            "wall s with",
            "wall s without",
            "manifest after s",
            "tail s",
            "to reach",
            "",
        ),
        {"size": given.size, "pairs": given.pairs, "jobs": given.jobs},
    )
    with options.scratch() as scratch:
        for method in given.methods:
            for shard in given.shards:
                _measure(report, method, shard, models, scratch / "out", (given.pairs, given.jobs))
    report.save(options.results)


def _measure(report: Report, method: str, shard: str, models: Models, out: Path, counts: tuple[int, int]) -> None:
    content = recipe(method, models.base, models.parents, shard_size=shard)
    pairs, jobs = counts
    tails: list[float] = []
    manifests: list[float] = []

    def ours() -> Cost:
        with _last_write() as moment:
            cost = cost_of(merge)
        manifests.append((out / "hubmerge.json").stat().st_mtime - moment[0])
        return cost

    def merge() -> None:
        written = merge_plan(build_plan(content, jobs=jobs), out).written
        tails.append(written.digest_seconds if written else 0.0)

    def other() -> Cost:
        return cost_of(lambda: merge_plan(build_plan(content, jobs=jobs), out, digest=False))

    other()
    remove(out)
    ours()
    files = sorted(out.glob("*.safetensors"), key=lambda path: -path.stat().st_size)
    size = sum(path.stat().st_size for path in files)
    hashing = median(_hash_time(files[0]) for _ in range(3))
    remove(out)
    tails.clear()
    manifests.clear()
    measured = interleaved(ours, other, pairs, lambda: remove(out))
    per_gb = median(pair.ours.cpu - pair.other.cpu for pair in measured) / (size / 1e9)
    tail = median(tails)
    row = (
        f"`{method}`",
        f"{len(files)}, {shard} at most",
        f"{per_gb:.2f}",
        *verdict(per_gb, TARGET),
        f"{median(pair.ours.wall for pair in measured):.2f}",
        f"{median(pair.other.wall for pair in measured):.2f}",
        f"{median(manifests):.2f}",
        f"{tail:.2f}",
        *verdict(tail, round(hashing, 2)),
    )
    told = {"tails": tails, "manifests": manifests, "hash_of_largest_file": hashing}
    report.add(row, method=method, shard=shard, bytes=size, pairs=measured, **told)


def _hash_time(path: Path) -> float:
    with path.open("rb") as file:
        begun = time.perf_counter()
        hashlib.file_digest(file, "sha256")
        return time.perf_counter() - begun


@contextmanager
def _last_write() -> Iterator[list[float]]:
    """While this is entered, every positioned write leaves its moment (seconds since 1970) in the list's one place."""
    moment = [0.0]
    write = os.pwrite

    def watched(descriptor: int, data: memoryview, offset: int) -> int:
        done = write(descriptor, data, offset)
        moment[0] = time.time()
        return done

    vars(os)["pwrite"] = watched
    try:
        yield moment
    finally:
        vars(os)["pwrite"] = write


if __name__ == "__main__":
    main()
