"""What an alignment takes, roughly: memory, and seconds of one core."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

from hubmerge.heterogeneous.align_stage import mixable
from hubmerge.symmetry.costs import dense_cost
from hubmerge.symmetry.groups import Group, SymmetrySpec

__all__ = ["memory_of_folds", "memory_of_weights", "seconds_of_activations", "seconds_of_weights"]

_DOUBLE = 8
_TENSORS, _MATRICES = 8, 7
"""Copies of a tensor in float64, and matrices of a group's pairs, that live at once.  Found for Llamas of 128 and 384 units, untrained:
19 and 82 MB, where 15 and 84 are told.
"""
_FOLDED = 4
"""Tables of a group's pairs that a fold keeps: how alike, of which sign, and the map there and back."""
_STARTS, _SWEEPS = 3, 6
"""Descents, and how often each visits all groups, about.  Found for the same two: 0.4 and 2.8 s, where 0.4 and 4.8 are told."""
_RATE = 2e10
"""Multiply-adds in a second of one core, where matrices are large."""
_ASSIGNMENT = 3e-11
"""Seconds of an assignment over the cube of its size."""


def memory_of_weights(spec: SymmetrySpec, matched: Collection[str]) -> int:
    """Bytes: the largest tensor in float64, and the inner products of every unit with every other."""
    largest = max((math.prod(tensor.shape) for tensor in spec.tensors.values()), default=0)
    units = max((_pairs(spec, spec.groups[name]) for name in matched), default=0)
    return _DOUBLE * (_TENSORS * largest + _MATRICES * units)


def memory_of_folds(specs: Sequence[SymmetrySpec], matched: Collection[str]) -> int:
    """Bytes of what a fold keeps of all its groups at once.  specs: of the base and of another model."""
    names = set(mixable(specs[0])) & set(matched)
    return _DOUBLE * _FOLDED * sum(math.prod(spec.groups[name].size for spec in specs) for name in names)


def seconds_of_weights(spec: SymmetrySpec, matched: Collection[str]) -> float:
    """For one model: inner products and assignments of every group, sweep by sweep, from several starts."""
    products = 0.0
    for tensor in spec.tensors.values():
        for name in {factor.group for factor in tensor.factors} & set(matched):
            products += float(math.prod(tensor.shape)) * math.isqrt(_pairs(spec, spec.groups[str(name)]))
    assignments = sum(math.pow(_pairs(spec, spec.groups[name]), 1.5) for name in matched)
    return _STARTS * _SWEEPS * (products / _RATE + _ASSIGNMENT * assignments)


def seconds_of_activations(
    spec: SymmetrySpec, matched: Collection[str], samples: int, positions: Mapping[str, int]
) -> float:
    """For one model: both run on the samples, and every unit's activations times every other's."""
    forward = 2 * dense_cost(spec, {}, positions).multiply_adds
    most = max(positions.values(), default=1)
    products = most * sum(_pairs(spec, spec.groups[name]) for name in matched)
    return samples * (forward + products) / _RATE


def _pairs(spec: SymmetrySpec, group: Group) -> int:
    """Numbers that are held of a group's pairs: of units, and of what is nested in them."""
    inside = sum(each.size**2 for each in spec.groups.values() if each.outer == group.name and each.kind.permutes)
    return group.size**2 * (1 + inside)
