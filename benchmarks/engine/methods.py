"""What each entrywise method costs over the floor, in process: `python -m benchmarks.engine.methods`.

The merge is everything from planning to the published folder, without digests, its kernels compiled before; the floor is
the same reads, each input once whatever the number of passes, and the same writes (`benchmarks.engine.floor`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import hubmerge
from benchmarks.engine.floor import cores, floor_of
from benchmarks.engine.measuring import Cost, cost_of, interleaved, median, ratio, remove
from benchmarks.engine.models import SIZES, Models, make_models
from benchmarks.engine.options import Options, parser
from benchmarks.engine.recipes import entrywise_methods, inputs, recipe
from benchmarks.engine.report import Report, verdict

__all__ = ["TARGETS", "main"]

TARGETS = {
    "linear": 1.6, "task_arithmetic": 2.0, "slerp": 3.0, "model_stock": 3.0, "dare_ties": 5.0, "breadcrumbs": 6.0,
    "ties": 6.0, "sce": 8.0, "della": 15.0,
}  # fmt: skip
"""CPU of the merge over CPU of the floor, at most; 2 parents, and the base where a method has one."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the methods one after the other."""
    commands = parser(__doc__)
    commands.add_argument("--size", choices=[name for name in SIZES if name != "30"], default="1.1")
    commands.add_argument("--pairs", type=int, default=5, help="how often merge and floor are run in turn")
    commands.add_argument("--methods", nargs="+", choices=entrywise_methods(), default=entrywise_methods())
    commands.add_argument("--jobs", type=int, default=cores(), help="worker threads of both")
    given = commands.parse_args(arguments)
    options = Options.of(given)
    models = make_models(options, given.size)
    report = Report(
        "methods",
        "Cost of a merge over the cost of reading and writing",
        f"Merging models of {models.size.parameters:,} bfloat16 parameters in process, from the page cache, without digests, "
        f"{given.jobs} threads; the floor reads the same inputs once and writes the same output. "
        f"Medians of {given.pairs} pairs, merge and floor in turn.",
        ("method", "inputs", "floor CPU s", "merge CPU s", "CPU ratio", "wall ratio", "to reach", ""),
        {"size": given.size, "pairs": given.pairs, "jobs": given.jobs},
    )
    with options.scratch() as scratch:
        for method in given.methods:
            _measure(report, method, models, scratch, given.pairs, given.jobs)
    report.save(options.results)


def _measure(report: Report, method: str, models: Models, scratch: Path, pairs: int, jobs: int) -> None:
    content = recipe(method, models.base, models.parents)
    out, target = scratch / "out", scratch / "floor"
    floor = floor_of(content, target, jobs)

    def ours() -> Cost:
        return cost_of(lambda: hubmerge.merge(content, out, jobs=jobs, digest=False))

    def other() -> Cost:
        return cost_of(floor)

    def between() -> None:
        remove(out)
        target.unlink(missing_ok=True)

    for warm in (ours, other):  # compiles the kernels, and brings the inputs into the page cache
        warm()
        between()
    measured = interleaved(ours, other, pairs, between)
    cpu = ratio(measured)
    row: tuple[Any, ...] = (
        f"`{method}`",
        len(inputs(content)),
        f"{median(pair.other.cpu for pair in measured):.2f}",
        f"{median(pair.ours.cpu for pair in measured):.2f}",
        f"{cpu:.2f}",
        f"{ratio(measured, 'wall'):.2f}",
        *verdict(cpu, TARGETS.get(method)),
    )
    report.add(row, method=method, recipe_parameters=_without_paths(content), pairs=measured)


def _without_paths(content: dict[str, Any]) -> dict[str, Any]:
    """What a recipe says beside the names of its models."""
    return {
        "parameters": content.get("parameters", {}),
        "models": [row.get("parameters", {}) for row in content["models"]],
    }


if __name__ == "__main__":
    main()
