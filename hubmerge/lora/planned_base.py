"""What a plan of adapters takes from their base: the starts that moved it, and tensors that whole ones are changes of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from hubmerge.adapter_kinds import FOUND_AGAIN, moved_by, refuse_start
from hubmerge.lora.base import Base
from hubmerge.lora.headers import AdapterHeader, header_of
from hubmerge.lora.plain import plain_source
from hubmerge.parents import ParentModel, open_parent
from hubmerge.recipe import Recipe

__all__ = ["base_of_wholes", "without_starts"]


def without_starts(
    adapters: Sequence[AdapterHeader], base: Base, pins: Mapping[str, str]
) -> tuple[tuple[AdapterHeader, ...], tuple[str, ...]]:
    """The adapters without a start that moved the base, where the base says what it was; and a sentence on those that had one."""
    found: list[AdapterHeader] = []
    told: list[str] = []
    for adapter in adapters:
        start = moved_by(adapter.config)
        if start is None:
            found.append(adapter)
            continue
        if start not in FOUND_AGAIN or base.reference is None:
            refuse_start(adapter.config, adapter.name)
            continue
        plain = plain_source(adapter.source, open_parent(base.reference, pins))
        found.append(replace(header_of(adapter.reference, plain, wholes=True), converted=adapter.table))
        told.append(
            f"the start of {adapter.name} ({start}), which had moved the base, is found again in it and taken off"
        )
    return tuple(found), tuple(told)


def base_of_wholes(
    recipe: Recipe, base: Base, adapters: Sequence[AdapterHeader], pins: Mapping[str, str], *, run: bool
) -> ParentModel | None:
    """The base, where whole tensors are changes of its own: for a model always, for an adapter where the recipe names it or it is `run`."""
    asked = recipe.output.kind == "dense" or recipe.base_model is not None or run
    if not asked or base.reference is None or not any(adapter.copies for adapter in adapters):
        return None
    return open_parent(base.reference, pins)
