"""Train every expert that is not in the cache: `python -m benchmarks.text_tasks.train`.  `compare` does so too, as it gets there."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.text_tasks.bench import bench_of
from benchmarks.text_tasks.options import parser, prepared

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> None:
    """All seeds of one model after those of the other."""
    given = prepared(parser(__doc__), arguments)
    for base in given.bases:
        for seed in given.seeds:
            bench_of(given.cache, base, seed)


if __name__ == "__main__":
    main()
