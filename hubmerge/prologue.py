"""Before the first tensor of a merge: what its stage or its method must know of many tensors together, found in passes of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from hubmerge.io.input_files import InputFiles
from hubmerge.measure import TensorMeasure
from hubmerge.plan_types import Plan, Step
from hubmerge.pools import pool_name
from hubmerge.staged import Known

__all__ = ["known_of", "pooled_states"]


def pooled_states(plan: Plan, files: InputFiles, jobs: int) -> dict[str, Any]:
    """What the method, or its stage, finds for every pool of the plan's tensors, by the pool's name; plain JSON values.

    Empty when every tensor is measured alone.  All tensors of a pool are read, on `jobs` threads, once for each pass.  The
    values do not depend on `jobs`.  Kept in a journal, they need not be found again: pass them to `known_of`.
    """
    source = plan.method if plan.method.pooled is not None else plan.method.before
    if source is None or source.pooled is None:
        return {}
    find, pools = source.pooled, _pools(plan)
    alone = all(len(steps) == 1 for steps in pools.values())  # then it is the pools that go to the threads

    def found(steps: Sequence[Step]) -> Any:
        with np.errstate(all="ignore"):  # of what is not finite: the pass that merges says where it is
            return find(TensorMeasure.of_pool(steps, files, 1 if alone else jobs), steps[0].values)

    if not alone:
        return {name: found(steps) for name, steps in pools.items()}
    with ThreadPoolExecutor(jobs) as threads:
        return dict(zip(pools, threads.map(found, pools.values()), strict=True))


def _pools(plan: Plan) -> dict[str, list[Step]]:
    pools: dict[str, list[Step]] = {}
    for step in plan.steps:
        name = pool_name(step, plan.method)
        if name is not None:
            pools.setdefault(name, []).append(step)
    return pools


def known_of(plan: Plan, pools: Mapping[str, Any]) -> Known:
    """What `compute` is told beside a step: the recipe's seed and what `pooled_states` found."""
    return Known(plan.recipe.seed, pools)
