"""Models with their tables of positions at the base's length: cut, filled up with the base's rows, or interpolated over the grid."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from hubmerge.heterogeneous.base_vocabulary import Rows, with_other_rows, with_rows_of
from hubmerge.heterogeneous.maps import GroupMap, Selection, Soft
from hubmerge.heterogeneous.position_rows import PositionRows, position_rows
from hubmerge.symmetry.verify import spec_of

__all__ = ["in_base_positions", "with_positions_of_base"]

Filled = tuple[str, Rows] | None
"""The group of positions, and which rows a model has none of its own for (-1); None where it has all."""


def in_base_positions(models: Sequence[Any]) -> tuple[list[Any], list[Filled]]:
    """The models, the base first, with as many positions as the base, zeros where they have none; and which these are, for each other."""
    base, found, filled = spec_of(models[0]), [models[0]], list[Filled]()
    for model in models[1:]:
        rows = position_rows((base, spec_of(model)), models[0].config.to_dict())
        found.append(model if rows is None else with_other_rows(model, {rows.group: _map(rows)}, rows.fields))
        lacks = rows is not None and rows.sides is None and rows.other < rows.base
        filled.append((rows.group, _first(rows)) if rows is not None and lacks else None)
    return found, filled


def with_positions_of_base(models: Sequence[Any], filled: Sequence[Filled]) -> list[Any]:
    """The same with the base's rows in place of the zeros, which are in the base's own basis by now."""
    others = zip(models[1:], filled, strict=True)
    return [models[0], *(m if rows is None else with_rows_of(models[0], m, rows[1], (rows[0],)) for m, rows in others)]


def _first(rows: PositionRows) -> Rows:
    """For every row of the base the other's of the same number, -1 where it has none."""
    numbers = np.arange(rows.base)
    return np.where(numbers < rows.other, numbers, -1)


def _map(rows: PositionRows) -> GroupMap:
    if rows.sides is None:
        return Selection.of(_first(rows))
    import torch

    ours, theirs = rows.sides
    grid = torch.eye(theirs * theirs, dtype=torch.float64).reshape(theirs * theirs, 1, theirs, theirs)
    patches = torch.nn.functional.interpolate(grid, size=(ours, ours), mode="bicubic", align_corners=False)
    matrix = np.zeros((rows.base, rows.other))
    matrix[0, 0] = 1.0  # the class token's
    matrix[1:, 1:] = patches.reshape(theirs * theirs, ours * ours).T.numpy()
    return Soft(matrix, matrix.T)
