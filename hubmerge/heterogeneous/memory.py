"""How much memory an assembly takes, roughly: all models, what lives between two layers of all samples, and the largest Gram matrices."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from hubmerge.heterogeneous.batches import FOLDS
from hubmerge.heterogeneous.passes import AT_ONCE, bytes_of_sums, largest_table
from hubmerge.symmetry.costs import dense_cost, shape_at
from hubmerge.symmetry.groups import Role, SymmetrySpec

__all__ = ["bytes_loaded", "estimated_memory"]

_SINGLE, _DOUBLE = 4, 8
_LIVING = 3
"""Tensors of a sample that live at once in a model that halts: what goes into a layer, what comes out, and what is added later."""
_AT_ONCE = 64
"""Samples that a model is run on at once where nothing is fitted."""


def estimated_memory(
    specs: Sequence[SymmetrySpec],
    sizes: Mapping[str, int],
    positions: Mapping[str, int],
    samples: int,
    *,
    fits: bool,
    correlates: bool = False,
) -> int:
    """Bytes above the interpreter and its libraries: models in float32, the halted runs, normal equations in float64.

    specs: of the models, the base's first; sizes: of the merge.  positions: of every layer, for one sample.  fits: whether layers are
    fitted.  correlates: whether units are matched by what they compute, which is done before, with the models run a few samples at a
    time.  Found for two ResNets of 80,000 and 178,000 parameters: 166 kB for a sample more, where 172 kB are told here.
    """
    shapes = [_shapes(spec, {}) for spec in specs]
    merged = _shapes(specs[0], sizes)
    parameters = sum(dense_cost(spec, {}).parameters for spec in specs) + 2 * dense_cost(specs[0], sizes).parameters
    widest = [
        max((positions.get(name, 1) * shape[0] for name, shape in own.items()), default=0) for own in (*shapes, merged)
    ]
    matching = min(bytes_of_sums(specs), AT_ONCE) + 2 * largest_table(specs) if correlates else 0
    run = _SINGLE * (parameters + _LIVING * sum(widest[:-1]) * min(samples, _AT_ONCE)) + matching
    if not fits:
        return run
    inputs = max((math.prod(shape[1:]) + 1 for shape in merged.values()), default=0)
    fitting = _SINGLE * (parameters + _LIVING * sum(widest) * samples) + _DOUBLE * (FOLDS + 2) * inputs**2
    return max(run, fitting)


def bytes_loaded(specs: Sequence[SymmetrySpec]) -> int:
    """What the models' own numbers take in float32."""
    return _SINGLE * sum(dense_cost(spec, {}).parameters for spec in specs)


def _shapes(spec: SymmetrySpec, sizes: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
    """The shapes of the matrices and kernels that a model multiplies with, where its groups have these sizes."""
    return {
        name: shape_at(tensor, sizes)
        for name, tensor in spec.tensors.items()
        if len(tensor.axes) > 1
        and (len(tensor.axes) == 4 or any(factor.role is Role.READS for factor in tensor.factors))
    }
