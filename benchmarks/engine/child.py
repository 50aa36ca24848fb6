"""One merge in a process of its own, to see its memory: `run_child` starts it, the module's `main` is what runs there.

Before anything is measured the process imports everything and merges small models by the same recipe, which compiles
every kernel it will need, and returns what is free to the system.
"""

from __future__ import annotations

import gc
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy.typing as npt

import hubmerge
from benchmarks.engine.measuring import Cost, cost_of, remove
from benchmarks.engine.resident import Watch, forget_the_peak, memory_of, return_free_memory
from hubmerge.execute import execute
from hubmerge.plan import build_plan
from hubmerge.plan_types import Plan, Step

__all__ = ["Footprint", "Work", "main", "run_child"]


@dataclass(frozen=True)
class Work:
    """What the process does: merge `recipe` into `out`; `warm` is the same recipe over small models.

    only: None carries out the whole merge; beginnings of tensor names run only the steps of these tensors, and
    throws the numbers away.
    """

    recipe: Mapping[str, Any]
    warm: Mapping[str, Any]
    out: str
    jobs: int
    digest: bool = True
    only: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Footprint:
    """What it took.  Bytes: resident before the work, and the growth above that at its worst.

    anonymous: growth of the anonymous memory, looked at every 2 ms; resident: growth of the whole resident set, as the
    kernel's high-water mark has it; peak: the high-water mark itself; planned: the plan's own bound.
    """

    cost: Cost
    before: int
    anonymous: int
    resident: int
    peak: int
    planned: int
    entries: int


def run_child(work: Work) -> Footprint:
    """Carry out `work` in a fresh process."""
    command = [sys.executable, "-m", "benchmarks.engine.child", json.dumps(asdict(work))]
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=root)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    answer = json.loads(done.stdout.splitlines()[-1])
    return Footprint(**{**answer, "cost": Cost(**answer["cost"])})


def main(arguments: Sequence[str]) -> None:
    """Do the work that is described in JSON, and print its footprint as JSON."""
    given = json.loads(arguments[0])
    work = Work(**{**given, "only": tuple(given["only"]) if given["only"] is not None else None})
    hubmerge.merge(work.warm, work.out, jobs=work.jobs, digest=work.digest)
    remove(Path(work.out))
    plan = build_plan(work.recipe, jobs=work.jobs)
    entries = sum(step.output.numel for step in _steps(plan, work.only))
    planned = plan.peak_memory
    del plan
    gc.collect()
    return_free_memory()
    forget_the_peak()
    before, anonymous = memory_of("VmRSS"), memory_of("RssAnon")
    with Watch() as watch:
        cost = cost_of(lambda: _carry_out(work))
    peak = memory_of("VmHWM")
    remove(Path(work.out))
    found = Footprint(cost, before, max(0, watch.worst - anonymous), peak - before, peak, planned, entries)
    print(json.dumps(asdict(found)))


def _carry_out(work: Work) -> None:
    if work.only is None:
        hubmerge.merge(work.recipe, work.out, jobs=work.jobs, digest=work.digest)
        return
    plan = build_plan(work.recipe, jobs=work.jobs)
    execute(replace(plan, steps=tuple(_steps(plan, work.only))), _thrown_away)


def _thrown_away(step: Step, first: int, entries: npt.NDArray[Any]) -> None:
    """A sink."""


def _steps(plan: Plan, only: tuple[str, ...] | None) -> list[Step]:
    return [step for step in plan.steps if only is None or step.output.name.startswith(only)]


if __name__ == "__main__":
    main(sys.argv[1:])
