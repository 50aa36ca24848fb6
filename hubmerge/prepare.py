"""A wrapper's prepare step, run, and the plan that merges with what it found."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from hubmerge.errors import NumbersError
from hubmerge.io.input_files import InputFiles
from hubmerge.plan_types import Plan
from hubmerge.wrapper import Changes, ParentModels, Prepared, Preparing, Statistics, own_values

__all__ = ["prepare", "with_coefficients"]


def prepare(
    plan: Plan,
    inputs: InputFiles,
    *,
    jobs: int,
    statistics: Statistics | None = None,
    models: ParentModels | None = None,
    note: Callable[[str], None] = lambda _: None,
    scratch: Path | None = None,
    changes: Changes | None = None,
) -> Prepared:
    """What the wrapper of `plan` finds; see `hubmerge.wrapper.Preparing`.

    Raises `NumbersError` for a coefficient that is not finite, and what the wrapper raises.
    """
    wrapper = plan.method.wrapper
    assert wrapper is not None
    asked = own_values(plan.recipe)
    found = wrapper.prepare(Preparing(plan, asked, inputs, jobs, statistics, models, note, scratch, changes))
    for layer, values in found.layers.items():
        if not all(map(math.isfinite, values)):
            raise NumbersError(
                f"{wrapper.name} found coefficients that are not finite: {list(values)}",
                where=layer,
                hint="look at the data and at the parents",
            )
    return found


def with_coefficients(plan: Plan, prepared: Prepared) -> Plan:
    """`plan` with every parent's weight multiplied by its coefficient, tensor by tensor; its hash stays that of what was asked for."""
    own = prepared.coefficients
    steps = tuple(
        replace(
            step,
            values={
                **step.values,
                "weight": tuple(w * c for w, c in zip(step.values["weight"], own[step.output.name], strict=True)),
            },
        )
        if step.action == "merge"
        else step
        for step in plan.steps
    )
    return replace(plan, steps=steps, prepared=prepared)
