"""A family's table for one config: its rows for every turn of the loops."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from hubmerge.symmetry.errors import SymmetryError
from hubmerge.symmetry.expressions import Fields, names_in
from hubmerge.symmetry.groups import Group
from hubmerge.symmetry.notation import GroupRow, TensorRow, parse_table
from zoo_index.families import FAMILIES, Family

__all__ = ["GroupTable", "TensorInstance", "family_of", "structure", "tensor_instances"]


@dataclass(frozen=True)
class TensorInstance:
    """One tensor that a model may have.  axes: as written, expressions filled in; None for a scalar."""

    name: str
    row: TensorRow
    axes: str | None


def family_of(config: Mapping[str, Any], where: str = "") -> Family:
    """The symmetry table for a config; `SymmetryError` that names the existing ones when there is none."""
    kind = config.get("model_type")
    for family in FAMILIES:
        if kind in family.model_types:
            return family
    known = sorted({name for family in FAMILIES for name in family.model_types})
    near = _nearest(str(kind), known)
    raise SymmetryError(
        f"no symmetry table for architecture {str(kind)!r}",
        where=where,
        hint=f"there are tables for {', '.join(known)}{f'; the nearest name is {near}' if near else ''}",
    )


def _nearest(name: str, known: list[str]) -> str | None:
    from difflib import get_close_matches

    return next(iter(get_close_matches(name, known, n=1, cutoff=0.5)), None)


def tensor_instances(family: Family, fields: Fields) -> dict[str, TensorInstance]:
    """Every tensor that the table gives a model of this config, by name, required and optional ones."""
    found: dict[str, TensorInstance] = {}
    for row in parse_table(family).tensors:
        for variables in _turns(family, fields, row.name + (row.axes or "")):
            if fields.value(row.condition, variables):
                name = fields.filled(row.name, variables)
                axes = None if row.axes is None else fields.filled(row.axes, variables)
                found[name] = TensorInstance(name, row, axes)
    return found


def structure(family: Family, fields: Fields) -> tuple[object, ...]:
    """What decides which tensors and groups a model of this config has: its loops and every condition of the table in them.

    Configs of equal structure have the same tensors and groups, perhaps of other sizes.
    """
    table = parse_table(family)
    told = [row.condition for row in table.groups] + [row.condition for row in table.tensors]
    told += [pair.condition for pair in (*table.same, *table.tied)]
    loops = [tuple(tuple(turn.values()) for turn in _turns(family, fields, f"{{{name}}}")) for name in family.loops]
    conditions = [
        bool(fields.value(text, turn))
        for text in dict.fromkeys(told)  # of many rows, few are different
        for turn in _turns(family, fields, f"{{{text}}}")
    ]
    return (*loops, *conditions)


def _turns(family: Family, fields: Fields, text: str) -> Iterator[dict[str, int]]:
    """The values of the loops' variables that `text` uses."""
    used = names_in(text)
    wanted = [
        variable
        for variable in family.loops
        if variable in used or any(_mentions(family.loops[other], variable) for other in family.loops if other in used)
    ]
    turns: list[dict[str, int]] = [{}]
    for variable in wanted:
        counts = fields.counts(family.loops[variable], turns)
        turns = [{**turn, variable: i} for turn, count in zip(turns, counts, strict=True) for i in range(count)]
    yield from turns


def _mentions(expression: str, variable: str) -> bool:
    return re.search(rf"\b{variable}\b", expression) is not None


class GroupTable:
    """The groups of a family for one config, made when they are asked for.

    same: the groups that are one with another, with its name.
    """

    def __init__(self, family: Family, fields: Fields) -> None:
        self._fields = fields
        self._made: dict[str, Group] = {}
        self._rows: dict[str, list[tuple[GroupRow, dict[str, int]]]] = {}
        for row in parse_table(family).groups:
            for variables in _turns(family, fields, row.name):
                self._rows.setdefault(fields.filled(row.name, variables), []).append((row, variables))
        self.same = {pair.first: pair.second for pair in parse_table(family).same if fields.value(pair.condition)}

    def canonical(self, name: str) -> str:
        """The name of the group that `name` is one with, itself as a rule."""
        return self.same.get(name, name)

    def group(self, name: str) -> Group:
        """The group `name` (canonical); KeyError when the table declares none."""
        if name not in self._made:
            row, variables = next(pair for pair in self._rows[name] if self._fields.value(pair[0].condition, pair[1]))
            outer = None if row.outer is None else self.canonical(self._fields.filled(row.outer, variables))
            size = self._fields.size(row.size, variables)
            self._made[name] = Group(name, row.name, row.kind, size, outer, row.norm)
        return self._made[name]
