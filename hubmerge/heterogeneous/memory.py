"""How much memory an assembly takes, roughly: what has to be there at once, and what can be on the disk meanwhile."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hubmerge.heterogeneous.batches import FOLDS
from hubmerge.heterogeneous.merged_tensors import strip_entries
from hubmerge.heterogeneous.passes import AT_ONCE, bytes_of_sums, largest_table
from hubmerge.symmetry.costs import dense_cost, shape_at
from hubmerge.symmetry.groups import Kind, Role, SymmetrySpec

__all__ = ["Needs", "living", "memory_of_matching", "memory_of_sums", "memory_of_turning", "needs_of"]

_SINGLE, _DOUBLE = 4, 8
_LIVING = 4
"""Tensors of a sample that live at once in a model that halts, each as wide as its widest layer: what goes into a layer, what comes out,
and what is multiplied or added later.  Found for llamas of 1536 inner units: 61 kB for a token in three models, where 74 are told.
"""
_RUN_AT_ONCE = 64
"""Samples that a model is run on at once where nothing is fitted."""
_STRIPS = 4
"""A strip of a tensor in float64: a parent's, the same in merged units, the sum, the mean."""
_SQUARES, _SIDES = 6, 5
"""Matrices in float64 that live at once where a layer is fitted, beside the sums of its folds: of all inputs with all inputs (what is
added, what is decomposed, its vectors and the work of finding them), and of all inputs with all outputs.
"""
_TURNED, _SOLVED = 6, 7
"""Of both models a matrix, its gains absorbed, and its other axis in the first's units; and tables of products, their vectors and a map."""


@dataclass(frozen=True)
class Needs:
    """Bytes above the interpreter, its libraries and the parents.

    merge: the merged model, or the layers of it that are merged.  least: the largest of what is done with it, which has to be in memory:
    tensors put together, correlations, a layer's equations.  batch: what one batch takes in all models at once.  halted: what all batches
    hold between two layers, or of a layer that is tried, and sums: those of the largest layer that is fitted, both of which can be on the
    disk; 0 where there are none.
    """

    merge: int
    least: int
    batch: int
    halted: int = 0
    sums: int = 0

    @property
    def whole(self) -> int:
        """With nothing on the disk."""
        return self.merge + self.least + max(self.batch, self.halted) + self.sums


def needs_of(
    specs: Sequence[SymmetrySpec],
    sizes: Mapping[str, int],
    positions: Mapping[str, int],
    samples: tuple[int, int],
    *,
    fits: bool,
    matching: int = 0,
) -> Needs:
    """specs: of the models, the base's first; sizes: of the merge.  positions: of every layer, for one sample.  samples: all, and those of a
    batch.  fits: whether layers are fitted.  matching: bytes that it takes to match units, which is done before there is a merged model.
    """
    merged = _shapes(specs[0], sizes)
    merge = _SINGLE * dense_cost(specs[0], sizes).parameters
    least = max(_strips(specs[0], sizes), matching - merge)
    count, batch = samples
    if not fits:
        return Needs(merge, least, living(specs, positions) * min(count, batch))
    alive = _living([*(_shapes(spec, {}) for spec in specs), merged], positions)
    layers = [(math.prod(shape[1:]) + 1, shape[0]) for shape in merged.values()]
    equations = max((inputs * (_SQUARES * inputs + _SIDES * outputs) for inputs, outputs in layers), default=0)
    sums = max((inputs * (inputs + outputs) for inputs, outputs in layers), default=0)
    return Needs(
        merge, max(least, _DOUBLE * equations), alive * min(count, batch), alive * count, _DOUBLE * FOLDS * sums
    )


def memory_of_matching(specs: Sequence[SymmetrySpec], positions: Mapping[str, int], samples: int) -> int:
    """Bytes of models that are loaded and whose units are matched by what they compute.  positions: of every layer, for one sample."""
    models = _SINGLE * sum(dense_cost(spec, {}).parameters for spec in specs)
    return models + living(specs, positions) * min(samples, _RUN_AT_ONCE) + memory_of_sums(specs)


def memory_of_sums(specs: Sequence[SymmetrySpec]) -> int:
    """Bytes of the correlations that are added up at once, and the tables that come of the largest group's."""
    return min(bytes_of_sums(specs), AT_ONCE) + 2 * largest_table(specs)


def memory_of_turning(specs: Sequence[SymmetrySpec]) -> int:
    """Bytes that it takes to turn one model's residual stream to another's: matrices in float64, of tables with a row for every token a strip,
    and what is solved for the largest group.
    """
    free = {Kind.TOKENS, Kind.POSITIONS, Kind.LABELS}
    largest = max(
        strip_entries(spec, name, tensor.shape, [each for each, group in spec.groups.items() if group.kind not in free])
        for spec in specs
        for name, tensor in spec.tensors.items()
    )
    units = max(group.size for spec in specs for group in spec.groups.values() if group.kind.permutes)
    return _DOUBLE * (_TURNED * largest + _SOLVED * units**2)


def _strips(spec: SymmetrySpec, sizes: Mapping[str, int]) -> int:
    """What stands in float64 of the tensor that is merged, and that tensor merged."""
    mapped = [name for name, group in spec.groups.items() if group.kind.is_symmetry]
    shapes = {name: shape_at(tensor, sizes) for name, tensor in spec.tensors.items()}
    return max(
        (
            _STRIPS * _DOUBLE * strip_entries(spec, name, shape, mapped) + _SINGLE * math.prod(shape)
            for name, shape in shapes.items()
        ),
        default=0,
    )


def living(specs: Sequence[SymmetrySpec], positions: Mapping[str, int]) -> int:
    """Bytes of one sample in models that run to their end, with what heads give that are tied to embeddings.  positions: of every layer."""
    rows = sum(spec.tensors[stored].shape[0] for spec in specs for _, stored in spec.tied if stored in spec.tensors)
    heads = _SINGLE * rows * max(positions.values(), default=1)
    return _living([_shapes(spec, {}) for spec in specs], positions) + heads


def _living(models: Sequence[Mapping[str, tuple[int, ...]]], positions: Mapping[str, int]) -> int:
    """Of one sample in all models.  models: the shapes of their layers."""
    widest = [
        max((positions.get(name, 1) * shape[0] for name, shape in shapes.items()), default=0) for shapes in models
    ]
    return _SINGLE * _LIVING * sum(widest)


def _shapes(spec: SymmetrySpec, sizes: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
    """The shapes of the matrices and kernels that are fitted, where its groups have these sizes: not of a head that is tied."""
    tied = {stored for _, stored in spec.tied}
    return {
        name: shape_at(tensor, sizes)
        for name, tensor in spec.tensors.items()
        if len(tensor.axes) > 1
        and name not in tied
        and (len(tensor.axes) == 4 or any(factor.role is Role.READS for factor in tensor.factors))
    }
