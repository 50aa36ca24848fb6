"""A symmetry's element applied to a model's tensors: the model that computes the same with other numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from hubmerge.symmetry.elements import Element, Linear, Monomial
from hubmerge.symmetry.groups import Axis, Role, Segment, SymmetrySpec

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["along", "transform"]


def transform(spec: SymmetrySpec, tensors: Mapping[str, Tensor], element: Element) -> dict[str, Tensor]:
    """The tensors of the model after `element`: each axis times E where it writes, E's inverse transposed where it reads.

    tensors: of the spec's model, by their names.  Computed in float64, given back in the dtype they came in; what is not
    floating-point, and what the element does not touch, is handed through.  The inputs are not changed.
    """
    return {name: _transformed(spec, name, tensor, element) for name, tensor in tensors.items()}


def _transformed(spec: SymmetrySpec, name: str, tensor: Tensor, element: Element) -> Tensor:
    import torch

    symmetry = spec.tensors[name]
    if not tensor.is_floating_point() or not any(factor.group in element for factor in symmetry.factors):
        return tensor
    result = tensor.to(torch.float64)
    for position, axis in enumerate(symmetry.axes):
        result = along(result.movedim(position, 0), axis, spec, element).movedim(0, position)
    return result.to(tensor.dtype).contiguous()


def along(values: Tensor, axis: Axis, spec: SymmetrySpec, element: Element) -> Tensor:
    """The first axis of `values`, segment by segment."""
    import torch

    sizes = [math.prod(factor.size for factor in segment) for segment in axis]
    pieces = zip(torch.split(values, sizes), axis, strict=True)
    return torch.cat([_piece(piece, segment, spec, element) for piece, segment in pieces])


def _piece(values: Tensor, segment: Segment, spec: SymmetrySpec, element: Element) -> Tensor:
    """Inner factors first: a nested group's parts are counted as its outer group's entries were."""
    factors = values.reshape(*(factor.size for factor in segment), -1)
    names = [factor.group for factor in segment]
    for position in reversed(range(len(segment))):
        name, role = names[position], segment[position].role
        if name is None or name not in element or (role is Role.FOLLOWS and not spec.groups[name].kind.permutes):
            continue
        outer = spec.groups[name].outer
        place = None if outer is None else names.index(outer)
        factors = _factor(factors, position, place, element[name], role)
    return factors.reshape(values.shape)


def _factor(values: Tensor, position: int, outer: int | None, part: Monomial | Linear, role: Role) -> Tensor:
    """`part` along axis `position` of `values`; where it is nested, one part for each entry of axis `outer`."""
    import torch

    front = (position,) if outer is None else (outer, position)
    to = tuple(range(len(front)))
    moved = values.movedim(front, to)
    if isinstance(part, Linear):
        matrix = part.matrix if role is Role.WRITES else np.swapaxes(np.linalg.inv(part.matrix), -1, -2)
        flat = moved.reshape(*moved.shape[: len(front)], -1)
        moved = (torch.from_numpy(matrix) @ flat).reshape(moved.shape)
    else:
        order = torch.from_numpy(part.order)
        picked = moved[order] if outer is None else moved[torch.arange(len(order))[:, None], order]
        if role is not Role.FOLLOWS:
            factor = torch.from_numpy(part.factor if role is Role.WRITES else 1 / part.factor)
            picked = picked * factor.reshape(*factor.shape, *(1 for _ in picked.shape[len(front) :]))
        moved = picked
    return moved.movedim(to, front)
