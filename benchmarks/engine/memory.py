"""Memory above a process that has imported everything and compiled its kernels: `python -m benchmarks.engine.memory`.

Each merge runs in a process of its own (`benchmarks.engine.child`).  Whole merges of 0.1 and 1.1 billion parameters, with
digests, to disk; and of a plan of 32.5 billion parameters over sparse files the steps of the embedding and of the first
layer, which hold its largest tensors, with real numbers in them, written nowhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.engine.child import Footprint, Work, run_child
from benchmarks.engine.floor import cores
from benchmarks.engine.models import SIZES, Models, make_models, make_partly_sparse_models
from benchmarks.engine.options import Options, parser
from benchmarks.engine.recipes import entrywise_methods, recipe
from benchmarks.engine.report import Report, verdict

__all__ = ["PARTS", "TARGET", "main"]

TARGET = 64e6
"""Bytes of anonymous memory."""

PARTS = ("model.embed_tokens.", "model.layers.0.")
"""The tensors of the sparse model that hold numbers and are merged, by the beginnings of their names."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure every method at every size."""
    commands = parser(__doc__)
    commands.add_argument(
        "--sizes", nargs="*", choices=[name for name in SIZES if name != "30"], default=["0.1", "1.1"]
    )
    commands.add_argument("--sparse", choices=[*SIZES, "none"], default="30", help="size of the sparse plan")
    commands.add_argument("--methods", nargs="+", choices=entrywise_methods(), default=entrywise_methods())
    commands.add_argument("--jobs", type=int, default=cores(), help="worker threads")
    given = commands.parse_args(arguments)
    options = Options.of(given)
    whole = {name: make_models(options, name) for name in given.sizes}
    warm = make_models(options, "toy")
    sparse = f"sparse {given.sparse} B"
    report = Report(
        "memory",
        "Memory above a process that has imported everything and compiled its kernels",
        f"MB of anonymous memory, and of resident memory in all, that a merge needs at its worst with {given.jobs} threads, two "
        f"parents and bfloat16. Whole merges with digests; of the sparse plan "
        f"({SIZES[given.sparse].parameters if given.sparse != 'none' else 0:,} parameters) the embedding and the first "
        f"layer, written nowhere.",
        ("method", "model", "entries merged", "anonymous MB", "resident MB", "peak of the process MB", "to reach", ""),
        {"sizes": given.sizes, "sparse": given.sparse, "jobs": given.jobs},
    )
    with options.scratch() as scratch:
        cases: list[tuple[str, Models, tuple[str, ...] | None]]
        cases = [(f"{name} B", models, None) for name, models in whole.items()]
        if given.sparse != "none":
            cases.append((sparse, _sparse(scratch, given.sparse), PARTS))
        for method in given.methods:
            for name, models, only in cases:
                content = recipe(method, models.base, models.parents)
                small = recipe(method, warm.base, warm.parents)
                found = run_child(Work(content, small, str(scratch / "out"), given.jobs, only=only))
                _add(report, method, name, found)
    report.save(options.results)


def _sparse(scratch: Path, name: str) -> Models:
    filled = [key for key, _ in SIZES[name].shapes() if key.startswith(PARTS)]
    return make_partly_sparse_models(scratch / "sparse", name, filled)


def _add(report: Report, method: str, model: str, found: Footprint) -> None:
    row = (
        f"`{method}`",
        model,
        f"{found.entries:,}",
        f"{found.anonymous / 1e6:.1f}",
        f"{found.resident / 1e6:.1f}",
        f"{found.peak / 1e6:.0f}",
        *verdict(found.anonymous / 1e6, TARGET / 1e6),
    )
    report.add(row, method=method, model=model, footprint=found)


if __name__ == "__main__":
    main()
