"""Before the first tensor of a merge: what its stage must know of many tensors together, found in passes of their own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hubmerge.io.reader import InputFiles
from hubmerge.measure import Known, TensorMeasure
from hubmerge.plan_types import Plan, Step
from hubmerge.pools import pool_name

__all__ = ["known_of", "pooled_states"]


def pooled_states(plan: Plan, files: InputFiles, jobs: int) -> dict[str, Any]:
    """What the method's stage finds for every pool of the plan's tensors, by the pool's name; plain JSON values.

    Empty when every tensor is measured alone.  All tensors of a pool are read, on `jobs` threads, once for each pass.  The
    values do not depend on `jobs`.  Kept in a journal, they need not be found again: pass them to `known_of`.
    """
    stage = plan.method.before
    if stage is None or stage.pooled is None:
        return {}
    pools: dict[str, list[Step]] = {}
    for step in plan.steps:
        name = pool_name(step, plan.method)
        if name is not None:
            pools.setdefault(name, []).append(step)
    return {
        name: stage.pooled(TensorMeasure.of_pool(steps, files, jobs), steps[0].values) for name, steps in pools.items()
    }


def known_of(plan: Plan, pools: Mapping[str, Any]) -> Known:
    """What `compute` is told beside a step: the recipe's seed and what `pooled_states` found."""
    return Known(plan.recipe.seed, pools)
