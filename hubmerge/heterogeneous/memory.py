"""How much memory an assembly takes, roughly: what has to be there at once, and what can be on the disk meanwhile."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hubmerge.heterogeneous.batches import FOLDS
from hubmerge.heterogeneous.merged_tensors import strip_entries
from hubmerge.heterogeneous.passes import AT_ONCE, bytes_of_sums, largest_table
from hubmerge.heterogeneous.sample_parts import MOST
from hubmerge.symmetry.costs import dense_cost, shape_at
from hubmerge.symmetry.groups import Kind, Role, SymmetrySpec

__all__ = ["Needs", "living", "memory_of_matching", "memory_of_sums", "memory_of_turning", "needs_of"]

_SINGLE, _DOUBLE = 4, 8
_LIVING = 4
"""Tensors of a sample that live at once in a model that halts, each as wide as its widest layer: what goes into a layer, what comes out,
and what is multiplied or added later.  Found for llamas of 1536 inner units: 61 kB for a token in three models, where 74 are told.
"""
_ROWS = 3
"""What a layer's rows take over those of a part (`hubmerge.heterogeneous.sample_parts`): outputs, before and after they are merged, and inputs in
two types.
"""
_DOUBT = 3
"""Of one sample's logits in float64, while it is found how sure a model is."""
_LOOKED_AT = 2
"""What is looked at takes as much again: centred, squared, multiplied.  Found for the same llamas: 95 kB for a token in two models that are
matched and 111 where layers are paired, where 98 and 106 are told.
"""
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
    tensors put together, correlations, a layer's rows or its equations.  batch: what one batch takes in all models at once, and samples:
    how many it has, 0 without data.  halted: what all batches hold between two layers, instead of one of them, and sums: those of the
    largest layer, or the calls of one that is tried; both can be on the disk, and are 0 where nothing is fitted or tried.
    """

    merge: int
    least: int
    batch: int
    halted: int = 0
    sums: int = 0
    samples: int = 0

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
    count, batch = samples[0], min(samples)
    if not fits:
        return Needs(merge, least, living(specs, positions) * batch, samples=batch)
    layers = [(math.prod(shape[1:]) + 1, shape[0], positions.get(name, 1)) for name, shape in merged.items()]
    equations = max((inputs * (_SQUARES * inputs + _SIDES * outputs) for inputs, outputs, _ in layers), default=0)
    rows = max((places * (inputs + outputs) for inputs, outputs, places in layers), default=0)
    sums = max((inputs * (inputs + outputs) for inputs, outputs, _ in layers), default=0)
    heads = max(_head(spec, positions) for spec in specs)
    parts = _ROWS * max(_DOUBLE * rows * min(batch, 1), min(MOST, _DOUBLE * rows * batch))
    least = max(least, _DOUBLE * equations, parts, _DOUBT * _DOUBLE * heads)
    models = [*((spec, _shapes(spec, {})) for spec in specs), (specs[0], merged)]
    alive = sum(_living(spec, shapes, positions, heads=True) for spec, shapes in models)
    running = alive + _SINGLE * heads  # the models come to their heads one after the other
    return Needs(merge, least, running * batch, alive * count, _DOUBLE * FOLDS * sums, batch)


def memory_of_matching(specs: Sequence[SymmetrySpec], positions: Mapping[str, int], samples: int) -> int:
    """Bytes of models that are loaded and whose units are matched by what they compute.

    positions: of every layer, for one sample.  samples: of a batch.
    """
    models = _SINGLE * sum(dense_cost(spec, {}).parameters for spec in specs)
    return models + living(specs, positions) * samples + memory_of_sums(specs)


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
    """Bytes of one sample in models that are run side by side and looked at, no further than to their heads of words.

    positions: of every layer.
    """
    return _LOOKED_AT * sum(_living(spec, _shapes(spec, {}), positions) for spec in specs)


def _living(
    spec: SymmetrySpec, shapes: Mapping[str, tuple[int, ...]], positions: Mapping[str, int], *, heads: bool = False
) -> int:
    """Of one sample in a model whose layers have these shapes.  heads: whether it also halts behind a head of words that is not tied."""
    widest, words = 0, 0
    for name, shape in shapes.items():
        entries = positions.get(name, 1) * shape[0]
        if _gives_words(spec, name):
            words = max(words, entries)
        else:
            widest = max(widest, entries)
    return _SINGLE * max(_LIVING * widest, words + widest if heads else 0)


def _head(spec: SymmetrySpec, positions: Mapping[str, int]) -> int:
    """Entries of what a model gives for one sample, where it tells words; 0 else."""
    stored = {stored for _, stored in spec.tied} & spec.tensors.keys()
    heads = [name for name in spec.tensors if name in stored or _gives_words(spec, name)]
    return max((spec.tensors[name].shape[0] * max(positions.values(), default=1) for name in heads), default=0)


def _gives_words(spec: SymmetrySpec, name: str) -> bool:
    """Whether a tensor is the matrix of a head that tells words."""
    axes = spec.tensors[name].axes
    group = axes[0][0][0].group if axes and axes[0] and axes[0][0] else None
    reads = any(factor.role is Role.READS for factor in spec.tensors[name].factors)
    return len(axes) > 1 and reads and group is not None and spec.groups[group].kind is Kind.TOKENS


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
