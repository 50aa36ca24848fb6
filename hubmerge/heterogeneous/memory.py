"""How much memory an assembly takes, roughly: all models, what lives between two layers of all samples, and the largest Gram matrices."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from hubmerge.heterogeneous.layer_fit import FOLDS
from hubmerge.symmetry.costs import Cost, shape_at
from hubmerge.symmetry.groups import Role, SymmetrySpec

__all__ = ["estimated_memory"]

_SINGLE, _DOUBLE = 4, 8
_LIVING = 3
"""Tensors of a sample that live at once in a model that halts: what goes into a layer, what comes out, and what is added later."""


def estimated_memory(
    parents: Sequence[Cost],
    merged: Cost,
    spec: SymmetrySpec,
    sizes: Mapping[str, int],
    positions: Mapping[str, int],
    samples: int,
    *,
    fits: bool,
) -> int:
    """Bytes above the interpreter and its libraries: models in float32, the halted runs, normal equations in float64.

    spec: of the base; sizes: of the merge.  positions: of every layer, for one sample.  fits: whether layers are fitted.
    """
    models = _SINGLE * (sum(cost.parameters for cost in parents) + 2 * merged.parameters)
    shapes = {name: shape_at(tensor, sizes) for name, tensor in spec.tensors.items() if len(tensor.axes) > 1}
    readers = [
        name for name in shapes if any(f.role is Role.READS or f.group == "channel" for f in spec.tensors[name].factors)
    ]
    widest = max((positions.get(name, 1) * shapes[name][0] for name in readers), default=0)
    if not fits:
        return models + _SINGLE * _LIVING * widest * min(samples, 64)
    living = _SINGLE * _LIVING * widest * samples * (len(parents) + 1)
    inputs = max((math.prod(shapes[name][1:]) + 1 for name in readers), default=0)
    return models + living + _DOUBLE * (FOLDS + 2) * inputs**2
