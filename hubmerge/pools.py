"""Pools: tensors that a stage measures together, those of one layer or of the whole model."""

from __future__ import annotations

import re

from hubmerge.method import MergeMethod
from hubmerge.plan_types import Step

__all__ = ["pool_name"]

_LAYER = re.compile(r"^.*?\.\d+(?=\.)")


def pool_name(step: Step, method: MergeMethod) -> str | None:
    """The name of the pool that a step belongs to; None where its tensor is measured alone.

    A layer is what shares the first number in the tensors' names and all before it (``model.layers.3``); tensors without a
    number are one more pool, as if they were a layer.
    """
    if step.action != "merge" or method.before is None:
        return None
    kind = method.before.pool(step.values)
    if kind == "layer":
        found = _LAYER.match(step.output.name)
        return f"layer {found.group()}" if found else "outside the layers"
    return "model" if kind == "model" else None
