"""A config at other widths: its fields set, the sizes of groups that follow, and whether it still is the same architecture."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from hubmerge.symmetry.expressions import Fields
from hubmerge.symmetry.instances import GroupTable, family_of, structure, tensor_instances
from hubmerge.symmetry.notation import parse_axes

__all__ = ["is_expressible", "sizes_of", "widened_config"]

_PART = re.compile(r"[^.\[\]]+")


def widened_config(config: Mapping[str, Any], values: Mapping[str, int]) -> dict[str, Any]:
    """`config` with the fields at these paths set, which it may not have stated."""
    widened: Any = dict(config)
    for path, value in values.items():
        widened = _with(widened, _PART.findall(path), value)
    result: dict[str, Any] = widened
    return result


def _with(node: Any, parts: Sequence[str], value: int) -> Any:
    if not parts:
        return value
    if isinstance(node, list | tuple):
        place = int(parts[0])
        return [*node[:place], _with(node[place], parts[1:], value), *node[place + 1 :]]
    node = node or {}
    return {**node, parts[0]: _with(node.get(parts[0]), parts[1:], value)}


def sizes_of(config: Mapping[str, Any]) -> dict[str, int]:
    """The size of every group that the table gives a model of this config, of optional tensors too.

    Raises `SymmetryError` for an architecture without a table and for a config that does not give the sizes.
    """
    family = family_of(config)
    fields = Fields(config, family)
    groups = GroupTable(family, fields)
    names = (
        groups.canonical(factor.name)
        for instance in tensor_instances(family, fields).values()
        for axis in parse_axes(instance.axes)
        for segment in axis
        for factor in segment
        if factor.name != "." and not factor.name.isdecimal()
    )
    return {name: groups.group(name).size for name in dict.fromkeys(names)}


def is_expressible(config: Mapping[str, Any], values: Mapping[str, int]) -> bool:
    """Whether `config` with the fields at these paths set has the same tensors as before, perhaps of other sizes, and can be loaded."""
    family = family_of(config)
    before, after = (Fields(each, family) for each in (config, widened_config(config, values)))
    return structure(family, before) == structure(family, after) and bool(after.value(family.requires))
