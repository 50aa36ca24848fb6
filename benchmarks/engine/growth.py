"""How time and memory grow with parameters, parents and threads: `python -m benchmarks.engine.growth`.

Each merge runs in a process of its own that has compiled its kernels (`benchmarks.engine.child`), without digests.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.engine.child import Footprint, Work, run_child
from benchmarks.engine.floor import cores
from benchmarks.engine.measuring import median
from benchmarks.engine.models import SIZES, make_models
from benchmarks.engine.options import Options, parser
from benchmarks.engine.recipes import entrywise_methods, recipe
from benchmarks.engine.report import Report

__all__ = ["main"]

_SIZES = ["0.03", "0.1", "0.3", "1.1"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure along the three directions."""
    sizes = [name for name in SIZES if name != "30"]
    commands = parser(__doc__)
    commands.add_argument("--methods", nargs="+", choices=entrywise_methods(), default=("linear", "ties"))
    commands.add_argument("--sizes", nargs="*", choices=sizes, default=_SIZES)
    commands.add_argument("--parents", nargs="*", type=int, default=[2, 3, 4, 6, 8])
    commands.add_argument("--parents-size", choices=sizes, default="0.3", help="size at which parents are added")
    commands.add_argument("--threads", nargs="*", type=int, default=[1, 2, 4])
    commands.add_argument("--threads-size", choices=sizes, default="1.1", help="size at which threads are added")
    commands.add_argument("--repeats", type=int, default=3)
    given = commands.parse_args(arguments)
    options, jobs = Options.of(given), cores()
    report = Report(
        "growth",
        "How time and memory grow",
        "Merging bfloat16 models in process, kernels compiled before, without digests. ns per parameter is CPU; memory is "
        f"the growth of anonymous memory. Medians of {given.repeats}.",
        ("method", "models", "parents", "threads", "wall s", "CPU s", "CPU ns per parameter", "anonymous MB"),
        {"repeats": given.repeats},
    )
    points = [(size, 2, jobs) for size in given.sizes]
    points += [(given.parents_size, parents, jobs) for parents in given.parents]
    points += [(given.threads_size, 2, threads) for threads in given.threads]
    with options.scratch() as scratch:
        for method in given.methods:
            for size, parents, threads in dict.fromkeys(points):
                _measure(report, options, scratch, method, (size, parents, threads), given.repeats)
    report.save(options.results)


def _measure(
    report: Report, options: Options, scratch: Path, method: str, point: tuple[str, int, int], repeats: int
) -> None:
    size, parents, threads = point
    models, warm = make_models(options, size, parents), make_models(options, "toy", parents)
    content = recipe(method, models.base, models.parents)
    small = recipe(method, warm.base, warm.parents)
    found: list[Footprint] = [
        run_child(Work(content, small, str(scratch / "out"), threads, digest=False)) for _ in range(repeats)
    ]
    cpu = median(footprint.cost.cpu for footprint in found)
    row = (
        f"`{method}`",
        f"{size} B",
        parents,
        threads,
        f"{median(footprint.cost.wall for footprint in found):.2f}",
        f"{cpu:.2f}",
        f"{cpu / models.size.parameters * 1e9:.2f}",
        f"{median(footprint.anonymous for footprint in found) / 1e6:.1f}",
    )
    report.add(row, method=method, size=size, parents=parents, threads=threads, footprints=found)


if __name__ == "__main__":
    main()
