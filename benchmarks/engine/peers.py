"""The whole command against mergekit's: `python -m benchmarks.engine.peers --mergekit VENV`.

`hubmerge merge`, with digests and without, and `mergekit-yaml` 0.1.5 of another virtual environment carry out the same
recipe, one after the other in turn; the models have no tokenizer, and mergekit is told not to look for one.  Counted is
everything between typing the command and its end, of all its processes: start, imports, compiling, merging.  A run of some of the methods
has a result file of its own: all five take an hour.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.engine.measuring import Cost, Pair, cost_of_command, median, remove
from benchmarks.engine.models import SIZES, Models, make_models
from benchmarks.engine.options import Options, parser
from benchmarks.engine.recipes import recipe
from benchmarks.engine.report import Report, verdict

__all__ = ["TARGETS", "main"]

TARGETS = {
    "linear": (4, 8),
    "task_arithmetic": (4, 8),
    "ties": (25, 30),
    "dare_ties": (15, 20),
    "slerp": (6, 12),
}
"""How many times less CPU than mergekit, at least: with digests, without."""

_FLAGS: dict[str, tuple[str, ...]] = {"with": (), "without": ("--no-digest",)}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure one method after the other."""
    commands = parser(__doc__)
    commands.add_argument("--size", choices=[name for name in SIZES if name != "30"], default="1.1")
    commands.add_argument("--pairs", type=int, default=5, help="how often each command is run")
    commands.add_argument("--methods", nargs="+", choices=tuple(TARGETS), default=tuple(TARGETS))
    commands.add_argument(
        "--peer-threads",
        default="1",
        help="OMP_NUM_THREADS of mergekit: 1 is its cheapest on few cores; 0 leaves it to torch",
    )
    given = commands.parse_args(arguments)
    options = Options.of(given)
    if options.mergekit is None:
        commands.error("--mergekit (or HUBMERGE_BENCH_MERGEKIT) must name a virtual environment with mergekit 0.1.5")
    peer = _version(options.mergekit)
    models = make_models(options, given.size)
    report = Report(
        "_".join(["peers", *(given.methods if len(given.methods) < len(TARGETS) else ())]),
        f"The whole command against mergekit {peer['mergekit']}",
        f"Models of {models.size.parameters:,} bfloat16 parameters, from the page cache; CPU (user and system) of the whole "
        "command, its passes compiled by an earlier one unless it says so. "
        f"Medians of {given.pairs} runs of each, in turn; mergekit with OMP_NUM_THREADS={given.peer_threads} "
        f"and torch {peer['torch']}. The ratios are medians over the turns.",
        ("method", "digests", "hubmerge CPU s", "wall s", "peak MB", "mergekit CPU s", "wall s", "peak MB", "CPU ratio",
         "wall ratio", "to reach", ""),
        {"size": given.size, "pairs": given.pairs, "peer_threads": given.peer_threads, "peer": peer},
        command="peers",
    )  # fmt: skip
    with options.scratch() as scratch:
        for method in given.methods:
            _measure(report, method, models, scratch, options.mergekit, given.pairs, given.peer_threads)
    report.save(options.results)


def _version(mergekit: Path) -> dict[str, str]:
    code = "import json, importlib.metadata as m; print(json.dumps({n: m.version(n) for n in ('mergekit', 'torch', 'transformers')}))"
    found = subprocess.run([mergekit / "bin" / "python", "-c", code], capture_output=True, text=True, check=True)
    versions: dict[str, str] = json.loads(found.stdout)
    return versions


def _measure(
    report: Report, method: str, models: Models, scratch: Path, mergekit: Path, pairs: int, threads: str
) -> None:
    written = scratch / f"{method}.yaml"
    written.write_text(json.dumps(recipe(method, models.base, models.parents)), encoding="utf-8")
    out, log = scratch / "out", scratch / "log.txt"

    def run(command: Sequence[str | Path], **environment: str) -> Cost:
        cost = cost_of_command([*command, written, out], log, environment)
        remove(out)
        return cost

    environment = {} if threads == "0" else {"OMP_NUM_THREADS": threads}
    hubmerge = (sys.executable, "-m", "hubmerge", "merge")
    # An installed package has its modules compiled; a working tree may be forbidden to.
    modules = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(scratch / "modules")}
    own = {**modules, "HUBMERGE_CACHE": str(scratch / "cache")}
    for flags in _FLAGS.values():  # bring inputs and programs into the page cache
        run([*hubmerge, *flags], **own)
    cost_of_command([mergekit / "bin" / "mergekit-yaml", "--help"], log)
    turns: list[dict[str, Cost]] = []
    for number in range(pairs):
        costs: dict[str, Cost] = {}
        for which in ("with", "peer", "without") if number % 2 else ("without", "peer", "with"):
            if which == "peer":
                costs[which] = run([mergekit / "bin" / "mergekit-yaml", "--no-copy-tokenizer"], **environment)
            else:
                costs[which] = run([*hubmerge, *_FLAGS[which]], **own)
        turns.append(costs)
    for which, target in zip(_FLAGS, TARGETS[method], strict=True):
        measured = [Pair(turn[which], turn["peer"]) for turn in turns]
        less = median(pair.other.cpu / pair.ours.cpu for pair in measured)
        row = (
            f"`{method}`",
            which,
            *_cells([pair.ours for pair in measured]),
            *_cells([pair.other for pair in measured]),
            f"{less:.1f}",
            f"{median(pair.other.wall / pair.ours.wall for pair in measured):.1f}",
            *verdict(less, target, at_least=True),
        )
        report.add(row, method=method, digests=which, turns=measured)
    anew = []
    for number in range(pairs):
        anew.append(run([*hubmerge, "--no-digest"], **modules, HUBMERGE_CACHE=str(scratch / f"cache{number}")))
        remove(scratch / f"cache{number}")
    row = (f"`{method}`", "without; passes compiled anew", *_cells(anew), "", "", "", "", "", "", "")
    report.add(row, method=method, digests="without", anew=anew)


def _cells(costs: Sequence[Cost]) -> tuple[str, str, str]:
    peak: Any = median((cost.peak or 0) / 1e6 for cost in costs)
    return f"{median(c.cpu for c in costs):.2f}", f"{median(c.wall for c in costs):.2f}", f"{peak:.0f}"


if __name__ == "__main__":
    main()
