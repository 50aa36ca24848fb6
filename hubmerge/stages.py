"""The stages of a recipe: `sparsify`, which entries of a delta survive, and `combine`, how what is left becomes one.

A `merge_method` is a preset of both.  With the two keys any stage goes with any rule on deltas.
"""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from functools import cache
from typing import Any

from hubmerge.assemblies import ASSEMBLIES, assembly_of
from hubmerge.errors import RecipeError, shown
from hubmerge.method import MergeMethod, Stage, around, compose, get_combine, get_method, with_inner
from hubmerge.wrapper import inner_of

__all__ = ["get_stage", "method_of", "stage_names", "with_stages_spread"]


@cache
def _stages() -> Mapping[str, Stage]:
    from hubmerge.ops.della import DELLA
    from hubmerge.ops.drop import RANDOM
    from hubmerge.ops.trim import BREADCRUMBS, MAGNITUDE

    return {stage.name: stage for stage in (MAGNITUDE, RANDOM, DELLA, BREADCRUMBS)}


def stage_names() -> tuple[str, ...]:
    """The stages that a recipe may ask for under `sparsify`."""
    return tuple(_stages())


def get_stage(name: str) -> Stage:
    """The stage called `name`; RecipeError with the nearest names when there is none."""
    if name not in _stages():
        close = get_close_matches(name, stage_names(), n=2, cutoff=0.5)
        hint = "did you mean " + " or ".join(close) + "?" if close else "known: " + ", ".join(stage_names())
        raise RecipeError(f"unknown stage {shown(name)}", where="sparsify", hint=hint)
    return _stages()[name]


@cache
def _composed(rule: MergeMethod, stage: Stage) -> MergeMethod:
    return compose(rule, stage)


def method_of(
    merge_method: str | None, sparsify: str | None, combine: str | None, parameters: Any = None
) -> MergeMethod:
    """The method of a recipe: its `merge_method`, or what its stages make; parameters: the recipe's, for a wrapper's `inner`.

    Raises RecipeError when there is neither, when a stage is asked for that `merge_method` sets already, for unknown
    names and stages that do not go together, and for an assembly, which is no method on tensors (`hubmerge.assemblies`).
    """
    if merge_method is None and combine is None:
        hint = (
            "`hubmerge methods` lists them"
            if sparsify is None
            else "sparsify needs it, or combine: weighted_sum or sign_consensus"
        )
        raise RecipeError("merge_method is missing", where="merge_method", hint=hint)
    if merge_method is not None and combine is not None:
        raise RecipeError(
            f"merge_method {merge_method} says already how deltas are combined",
            where="combine",
            hint="keep one of the two; beside combine, sparsify says what goes before",
        )
    rule = _named(merge_method) if merge_method is not None else get_combine(str(combine))
    rule = (
        around(rule, parameters)
        if rule.wrapper is None
        else with_inner(rule.wrapper, inner_of(rule.wrapper, parameters))
    )
    if sparsify is None:
        return rule
    stage = get_stage(sparsify)
    if rule.before is not None:
        raise RecipeError(
            f"merge_method {rule.name} sets the stage sparsify already: {rule.before.name}",
            where="sparsify",
            hint="remove it, or write combine: weighted_sum or sign_consensus instead of merge_method",
        )
    return _composed(rule, stage)


def _named(merge_method: str) -> MergeMethod:
    if assembly_of(merge_method) is not None:
        raise RecipeError(
            f"{merge_method} puts unlike models together, and has no rule that merges tensor by tensor",
            where="merge_method",
            hint="`hubmerge methods` lists the methods that have one",
        )
    try:
        return get_method(merge_method)
    except RecipeError as fault:
        close = get_close_matches(merge_method.lower(), ASSEMBLIES, n=1, cutoff=0.6)
        if not close or fault.hint.startswith("did you mean"):
            raise
        raise RecipeError(fault.message, where=fault.where, hint=f"did you mean {close[0]}?") from None


def with_stages_spread(raw: Mapping[Any, Any]) -> tuple[Mapping[Any, Any], list[RecipeError]]:
    """A recipe whose ``sparsify: {method: ..., density: ...}`` is written as a name and top-level parameters; and its faults."""
    stage = raw.get("sparsify")
    if not isinstance(stage, Mapping):
        return raw, []
    given = {name: value for name, value in stage.items() if name != "method"}
    shared = raw.get("parameters") or {}
    if not isinstance(shared, Mapping):
        return {**raw, "sparsify": stage.get("method")}, []
    faults = [
        RecipeError(
            f"{name} stands under sparsify and under parameters", where=f"sparsify.{name}", hint="keep one of them"
        )
        for name in given
        if name in shared
    ]
    if "method" not in stage:
        faults.append(
            RecipeError("the stage has no method", where="sparsify", hint="write method: " + ", ".join(stage_names()))
        )
    return {**raw, "sparsify": stage.get("method"), "parameters": {**given, **shared}}, faults
