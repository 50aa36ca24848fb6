"""What a method finds by running adapters in memory on their base: coefficients, from batches that a call gives."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hubmerge.errors import PlanError, RecipeError
from hubmerge.in_memory import plan_opened
from hubmerge.in_memory_data import batches_of, is_model, own_copy
from hubmerge.in_memory_tensors import MemoryInputs, StateDict
from hubmerge.lora.in_basis import BasisMerge
from hubmerge.lora.on_base import OnBase
from hubmerge.lora.weighing import found_by_running
from hubmerge.method import MergeMethod
from hubmerge.wrapper import Prepared
from zoo_index.reference import ModelRef

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["check_data", "found_in_memory"]

Batches = Sequence[Sequence[Mapping[str, "Tensor"]]]


def check_data(method: MergeMethod, calibration: Any, base: Any, adapters: int) -> Batches | None:
    """The batches of every adapter; None for a method that runs no models.

    Raises `RecipeError` for data that is missing, of no use to the method or none, and `PlanError` for a base that cannot be run.
    """
    if method.wrapper is None or not method.wrapper.needs_data:
        if calibration is not None:
            raise RecipeError(f"{method.name} has no use for calibration=", where="calibration", hint="leave it out")
        return None
    if calibration is None:
        raise RecipeError(
            f"{method.name} needs calibration, and none is given",
            where="calibration",
            hint="calibration=[batches, batches], one for each adapter, and base=, the model or its folder",
        )
    if not is_model(base) and not isinstance(base, str | Path):
        lacks = "none is given" if base is None else "it is no model"
        raise PlanError(
            f"{method.name} runs every adapter on its base, and {lacks}",
            where="base",
            hint="base=, the model that they were trained on, or its folder",
        )
    return batches_of(calibration, adapters)


def found_in_memory(merge: BasisMerge, base: Any, data: Batches) -> Prepared:
    """The coefficients that the method of `merge` finds.

    base: a model of torch, which stays what it is, or a folder or a repository, which is loaded for every run.  data: see `check_data`.
    Raises what the method raises, and `PlanError` for adapters that do not fit the base.
    """
    copied = _copied(base)
    models = OnBase(copied, merge.adapters, data)
    # parameters that are tied are one here, as in a checkpoint
    tensors = {name: values.detach() for name, values in copied().named_parameters()}
    opened = [StateDict(reference.name, tensors) for reference in merge.recipe.references]
    plan = plan_opened(merge.recipe, opened, merge.jobs)
    wholes = {name for own in merge.adapters for name in own.copies}
    biases = {f"{module}.bias" for own in merge.adapters for module in own.biases}
    changed = [f"{module}.weight" for module in merge.stacks] + sorted(wholes | biases)
    return found_by_running(plan, MemoryInputs(plan.parents, opened, keep=1), models, lambda: merge, changed)


def _copied(base: Any) -> Callable[[], nn.Module]:
    if is_model(base):
        return partial(own_copy, base)
    from hubmerge.parent_models import load_parent

    return partial(load_parent, ModelRef.parse(str(base)), {})
