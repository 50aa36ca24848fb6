"""Pools: tensors that a stage measures together, those of one layer or of the whole model."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from hubmerge.errors import RecipeError
from hubmerge.method import MergeMethod
from hubmerge.plan_types import Step

__all__ = ["layer_name", "pool_name", "refuse_unlike"]

_LAYER = re.compile(r"^.*?\.\d+(?=\.)")


def layer_name(tensor: str) -> str | None:
    """The layer that a tensor belongs to, as all before and with the first number in its name (``model.layers.3``); None outside."""
    found = _LAYER.match(tensor)
    return found.group() if found else None


def pool_name(step: Step, method: MergeMethod) -> str | None:
    """The name of the pool that a step belongs to; None where its tensor is measured alone.

    A layer is what shares the first number in the tensors' names and all before it (``model.layers.3``); tensors without a
    number are one more pool, as if they were a layer.
    """
    if step.action != "merge":
        return None
    if method.pooled is not None:
        return "model" if method.pool(step.values) == "model" else f"tensor {step.output.name}"
    if method.before is None:
        return None
    kind = method.before.pool(step.values)
    if kind == "layer":
        layer = layer_name(step.output.name)
        return f"layer {layer}" if layer else "outside the layers"
    return "model" if kind == "model" else None


def refuse_unlike(steps: Sequence[Step], method: MergeMethod) -> None:
    """RecipeError for the first two tensors of one pool that differ in what holds for all of it: they cannot be trimmed together."""
    first: dict[str, Step] = {}
    for step in steps:
        name = pool_name(step, method)
        if name is None:
            continue
        other = first.setdefault(name, step)
        if method.pooled is not None:
            _refuse_other_values(other, step, method)
            continue
        if other.values["density"] != step.values["density"]:
            scope, together = (
                ("model", "all tensors of the model") if name == "model" else ("layer", "a layer's tensors")
            )
            pair = [f"{list(one.values['density'])} for {one.output.name!r}" for one in (other, step)]
            raise RecipeError(
                f"trim_scope: {scope} trims {together} together, but their densities differ: {', '.join(pair)}",
                where="parameters.density",
                hint="give them one density, or trim_scope: tensor",
            )


def _refuse_other_values(one: Step, other: Step, method: MergeMethod) -> None:
    if [operand.parent for operand in one.operands] != [operand.parent for operand in other.operands]:
        raise RecipeError(
            f"{method.name} looks at all tensors of the model together, but {one.output.name!r} and {other.output.name!r} are merged of "
            "different models",
            where="parameters.scope",
            hint="write scope: tensor, or give every slice the same models in one order",
        )
    for field in method.alike(one.values):
        if one.values[field] != other.values[field]:
            name = method.parameters.alias(field)
            pair = [f"{_shown(step.values[field])} for {step.output.name!r}" for step in (one, other)]
            raise RecipeError(
                f"{method.name} looks at all tensors of the model together, but their {name} differs: {', '.join(pair)}",
                where=f"parameters.{name}",
                hint="give them one value, or scope: tensor",
            )


def _shown(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
