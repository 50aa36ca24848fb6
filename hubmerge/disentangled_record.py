"""`DisentangledRecord`: what a manifest says of deltas from which something was subtracted that they shared (awd)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from hubmerge.methods.weight_disentanglement import equivalent_weights
from hubmerge.pools import pool_name

if TYPE_CHECKING:
    from hubmerge.plan_types import Plan, Step

__all__ = ["DisentangledPool", "DisentangledRecord", "disentangled_record", "equivalents"]

Rows = tuple[tuple[float, ...], ...]


class DisentangledPool(BaseModel):
    """Tensors that one redundant vector is subtracted from.

    name: ``model``, or ``tensor`` and its name.  norms: of the parents' deltas; norm: of the redundant vector, which is the sum of
    `shared` times the deltas.  before, after: cosines of every two parents' deltas; 0 beside one that learned nothing.  weights: those
    with which task arithmetic on the deltas as they are gives the same; None where that is not so (ties), or where the parents' weights
    differ between tensors.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    name: str
    norms: tuple[float, ...]
    norm: float
    shared: tuple[float, ...]
    before: Rows
    after: Rows
    weights: tuple[float, ...] | None = None


class DisentangledRecord(BaseModel):
    """inner: how what was left was merged.  parents: by name, in the order of the numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    inner: str
    parents: tuple[str, ...]
    pools: tuple[DisentangledPool, ...]


def disentangled_record(plan: Plan, found: Mapping[str, Any]) -> DisentangledRecord | None:
    """What the manifest keeps of what `pooled_states` found; None for a method that subtracts nothing."""
    if plan.method.pooled is None:
        return None
    steps: dict[str, list[Step]] = {}
    for step in plan.steps:
        name = pool_name(step, plan.method)
        if name is not None:
            steps.setdefault(name, []).append(step)
    return DisentangledRecord(
        inner=next((step.values["inner"] for own in steps.values() for step in own), ""),
        parents=tuple(map(str, plan.recipe.parents)),
        pools=tuple(_pool(name, found[name], own) for name, own in steps.items()),
    )


def _pool(name: str, state: Mapping[str, Any], steps: list[Step]) -> DisentangledPool:
    given = {step.values["weight"] for step in steps}
    weights = equivalent_weights(state, given.pop()) if len(given) == 1 and _is_sum(steps[0]) else None
    kept = {key: state[key] for key in ("norms", "norm", "shared", "before", "after")}
    return DisentangledPool(name=name, weights=weights, **kept)


def equivalents(plan: Plan, found: Mapping[str, Any]) -> dict[str, tuple[float, ...]]:
    """By tensor the weights with which task arithmetic gives the same; empty under an inner method that adds nothing up."""
    named = ((step, pool_name(step, plan.method)) for step in plan.steps)
    return {
        step.output.name: equivalent_weights(found[name], step.values["weight"])
        for step, name in named
        if name is not None and _is_sum(step)
    }


def _is_sum(step: Step) -> bool:
    return bool(step.values["inner"] != "ties")
