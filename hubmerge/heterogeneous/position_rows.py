"""Which rows of another model's table of positions go to which of the base's: the first ones, or, of a grid, all of them.  No torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hubmerge.errors import PlanError
from hubmerge.symmetry.groups import Kind, SymmetrySpec
from zoo_index.families import POSITION_FIELDS

__all__ = ["PositionRows", "check_filled", "position_rows"]

_GRIDS = ("vit",)
"""Families whose positions are a class token and a square grid of patches."""


@dataclass(frozen=True)
class PositionRows:
    """How a table of positions comes to the base's length.

    group: of the positions.  base, other: how many rows there are.  fields: of the config, that are the base's then.
    sides: of the grids, base's first, where rows are interpolated; None where the first rows go to the first.
    """

    group: str
    base: int
    other: int
    fields: Mapping[str, Any]
    sides: tuple[int, int] | None

    def text(self, other: str, base: str) -> str:
        """What is done, in a sentence."""
        if self.sides is not None:
            ours, theirs = self.sides
            return (
                f"{other}'s, a grid of {theirs} by {theirs}, are interpolated (bicubic) to {base}'s of {ours} by {ours}"
            )
        if self.other > self.base:
            return f"the first {self.base:,} of {other}'s {self.other:,} are taken, as many as {base} has"
        return f"{other}'s {self.other:,} go with the first of {base}'s {self.base:,}; the others stay {base}'s own"


def position_rows(specs: tuple[SymmetrySpec, SymmetrySpec], base_config: Mapping[str, Any]) -> PositionRows | None:
    """How the second model's positions come to the first's; None where they are as many, or where it is not known how.

    base_config: as config.json or `to_dict` has it.
    """
    family = specs[0].family
    names = [name for name, group in specs[0].groups.items() if group.kind is Kind.POSITIONS]
    if len(names) != 1 or family not in POSITION_FIELDS or names[0] not in specs[1].groups:
        return None
    base, other = (spec.groups[names[0]].size for spec in specs)
    fields = {field: base_config[field] for field in POSITION_FIELDS[family] if field in base_config}
    if base == other or len(fields) != len(POSITION_FIELDS[family]):
        return None
    if family not in _GRIDS:
        return PositionRows(names[0], base, other, fields, None)
    sides = math.isqrt(base - 1), math.isqrt(other - 1)
    if (sides[0] ** 2, sides[1] ** 2) != (base - 1, other - 1):
        return None
    return PositionRows(names[0], base, other, fields, sides)


def check_filled(specs: Sequence[SymmetrySpec], positions: Sequence[PositionRows | None], names: Sequence[str]) -> None:
    """`PlanError` where rows of the base's table of positions were to fill up a table of another width.  specs, names: the base's first."""
    for name, spec, rows in zip(names[1:], specs[1:], positions, strict=True):
        if rows is None or rows.sides is not None or rows.other >= rows.base:
            continue
        tables = [tensor for tensor in spec.tensors.values() if any(f.group == rows.group for f in tensor.factors)]
        beside = {f.group for tensor in tables for f in tensor.factors if f.group not in {None, rows.group}}
        if any(specs[0].groups[group].size != spec.groups[group].size for group in beside if group is not None):
            raise PlanError(
                f"{name} has {rows.other} positions and {names[0]} {rows.base}, whose rows have another width and cannot fill it up",
                where="models",
                hint="name the model with fewer positions as the base, or take models of one width",
            )
