"""The plan of running adapters on their base: the recipe of base+adapter models that a method asks for its coefficients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hubmerge.errors import PlanError
from hubmerge.lora.base import Base
from hubmerge.lora.headers import AdapterHeader
from hubmerge.plan import open_all, plan_models
from hubmerge.plan_types import Plan
from hubmerge.preparation import plan_preparation, prepared_for
from hubmerge.recipe import Recipe
from zoo_index.reference import ModelRef

__all__ = ["plan_running"]

_SINGLE = 4


def plan_running(
    recipe: Recipe, base: Base, adapters: Sequence[AdapterHeader], pins: Mapping[str, str], *, jobs: int | None
) -> Plan:
    """The merge of the models that every adapter makes of its base, as far as it is planned: nothing is merged by it.

    Its preparation says what is run, and on which data.  Raises `PlanError` for adapters of which nobody says on which base, and what opening
    models and looking at their data raises, for all of them together.
    """
    if base.reference is None:
        raise PlanError(
            f"{recipe.method.name} runs every adapter on its base, and neither the recipe nor an adapter says which that is",
            where="base_model",
            hint="add base_model: the model that the adapters were trained on",
        )
    asked = _with_base(recipe, base.reference)
    commits = {adapter.name: adapter.source.pinned.commit for adapter in adapters}
    known = {**pins, **{name: commit for name, commit in commits.items() if commit}}
    open_all([base.reference], known)  # a base that is not there is told once
    models = open_all(asked.references, known)
    plan = plan_models(asked, models, jobs=jobs, memory=1 << 62)
    return prepared_for(plan, plan_preparation(asked, models, pins, thin=_numbers(adapters)))


def _with_base(recipe: Recipe, base: ModelRef) -> Recipe:
    models = [
        {
            "model": ModelRef(base.name, base.revision, entry.model),
            "parameters": entry.parameters,
            "calibration": entry.calibration,
        }
        for entry in recipe.models
    ]
    return Recipe.parse(
        {
            "merge_method": recipe.merge_method,
            "base_model": base,
            "models": models,
            "parameters": recipe.parameters,
            "seed": recipe.seed,
        }
    )


def _numbers(adapters: Sequence[AdapterHeader]) -> int:
    """Bytes of all that the adapters change, in float32, as factors."""
    factors = sum(part.rank * sum(part.shape) for own in adapters for part in own.modules.values())
    wholes = sum(meta.numel for own in adapters for part in (own.copies, own.biases) for meta in part.values())
    return _SINGLE * (factors + wholes)
