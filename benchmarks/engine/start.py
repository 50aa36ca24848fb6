"""How soon a command does something: `python -m benchmarks.engine.start`.

`hubmerge merge` runs in a process whose reads and writes are watched, until the first merged bytes are written: when was the
first byte of a weight read at all (the samples by which parents are recognised), when the first chunk to be merged, when was
the first one computed?  And `hubmerge --help`.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.engine.measuring import cost_of_command, median
from benchmarks.engine.models import SIZES, make_models
from benchmarks.engine.options import Options, parser
from benchmarks.engine.recipes import entrywise_methods, recipe
from benchmarks.engine.report import Report, verdict

__all__ = ["TARGETS", "main"]

TARGETS = {"chunk": 1.5, "help": 1.0}
"""Seconds of CPU from the process's start to the first chunk read; seconds of the clock of `--help`."""

_MOMENTS = {"sample": "first sample read", "chunk": "first chunk read", "write": "first chunk merged"}
_ROOT = Path(__file__).resolve().parents[2]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the starts."""
    commands = parser(__doc__)
    commands.add_argument("--size", choices=[name for name in SIZES if name != "30"], default="1.1")
    commands.add_argument("--repeats", type=int, default=5)
    commands.add_argument("--methods", nargs="+", choices=entrywise_methods(), default=("linear", "ties", "slerp"))
    given = commands.parse_args(arguments)
    options = Options.of(given)
    models = make_models(options, given.size)
    report = Report(
        "start",
        "From the start of the command to the first byte",
        f"`hubmerge merge` over models of {models.size.parameters:,} parameters in {sum(1 for _ in models.size.shapes())} tensors; "
        f"seconds since the process began, medians of {given.repeats}. Torch: whether it was imported by then.",
        ("command", "moment", "CPU s", "wall s", "torch", "to reach", ""),
        {"size": given.size, "repeats": given.repeats},
    )
    with options.scratch() as scratch:
        for method in given.methods:
            path = scratch / f"{method}.yaml"
            path.write_text(json.dumps(recipe(method, models.base, models.parents)), encoding="utf-8")
            runs = [_watched(path, scratch / f"{method}{number}") for number in range(given.repeats + 1)][1:]
            for moment, words in _MOMENTS.items():
                cpu, wall = (median(run[moment][which] for run in runs) for which in ("cpu", "wall"))
                torch = any(run["torch"] for run in runs)
                row = (f"`hubmerge merge` ({method})", words, f"{cpu:.2f}", f"{wall:.2f}", "yes" if torch else "no")
                report.add((*row, *verdict(cpu, TARGETS.get(moment))), method=method, moment=moment, runs=runs)
        helps = [
            cost_of_command([sys.executable, "-m", "hubmerge", "--help"], scratch / "help.txt")
            for _ in range(given.repeats + 1)
        ][1:]
        wall = median(cost.wall for cost in helps)
        row = ("`hubmerge --help`", "its end", f"{median(cost.cpu for cost in helps):.2f}", f"{wall:.2f}", "-")
        report.add((*row, *verdict(wall, TARGETS["help"])), costs=helps)
    report.save(options.results)


def _watched(path: Path, out: Path) -> dict[str, Any]:
    """The moments of one start: name -> cpu and wall seconds; and whether torch was imported.  What was begun is removed."""
    command = [
        sys.executable,
        "-m",
        "benchmarks.engine.watched_start",
        str(time.monotonic()),
        "merge",
        str(path),
        str(out),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=_ROOT)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    # ended after the first bytes, it keeps the space that it reserved
    shutil.rmtree(out.with_name(f"{out.name}.partial"))
    moments: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return moments


if __name__ == "__main__":
    main()
