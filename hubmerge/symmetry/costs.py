"""What a model of given group sizes costs: parameters and multiply-adds, dense, and without the blocks that are zero.

Where parents keep units apart, a weight between a unit of one parent alone and a unit of another alone is zero.  A checkpoint
of an ordinary architecture stores and multiplies these zeros, so its cost is the dense one.  The cost without them is what
Nasery et al. 2024, PLeaS, arXiv:2407.02447, calls the budget; it takes a model that leaves the blocks out.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from hubmerge.symmetry.groups import Role, SymmetrySpec, TensorSymmetry

__all__ = [
    "Cost",
    "CostTerm",
    "Sharing",
    "block_cost",
    "cost_at",
    "cost_terms",
    "dense_cost",
    "shape_at",
    "sharing_at",
]

Sharing = tuple[tuple[frozenset[int], int], ...]
"""How many units of a merged group are of which parents: (the parents' places, how many units), each set of parents once."""


@dataclass(frozen=True)
class Cost:
    """parameters: the numbers stored, BatchNorm's statistics too.  multiply_adds: of one input.

    Counted is the multiplication by matrices and kernels; norms, biases, looked-up embeddings and the products of attention
    among positions are not.
    """

    parameters: int
    multiply_adds: int


@dataclass(frozen=True)
class CostTerm:
    """Tensors that always have the same shape.

    axes: for each axis its segments, each the factors whose product it is long: names of groups, or numbers.  tensors: how many
    there are.  positions: at how many output positions they are multiplied with, together.
    """

    axes: tuple[tuple[tuple[int | str, ...], ...], ...]
    tensors: int
    positions: int


def shape_at(tensor: TensorSymmetry, sizes: Mapping[str, int]) -> tuple[int, ...]:
    """The tensor's shape where groups have these sizes; a group that is not in `sizes` has its own."""
    return tuple(
        sum(math.prod(sizes.get(factor.group or "", factor.size) for factor in segment) for segment in axis)
        for axis in tensor.axes
    )


def cost_terms(
    spec: SymmetrySpec, positions: Mapping[str, int] | None = None, like: Mapping[str, int | str] | None = None
) -> tuple[CostTerm, ...]:
    """What `cost_at` needs of a model; made once where many sizes are tried.

    positions: tensor -> its output positions for one input (a convolution's pixels, a batch of one's tokens), 1 where it is not
    told.  like: group -> the group that always has its size, or the number where it never changes.
    """
    like = like or {}
    found = Counter[tuple[tuple[tuple[int | str, ...], ...], ...]]()
    used = Counter[tuple[tuple[tuple[int | str, ...], ...], ...]]()
    for name, tensor in _weights(spec):
        axes = tuple(
            tuple(
                tuple(
                    factor.size if factor.group is None else like.get(factor.group, factor.group) for factor in segment
                )
                for segment in axis
            )
            for axis in tensor.axes
        )
        found[axes] += 1
        used[axes] += _uses(spec, name, positions or {})
    return tuple(CostTerm(axes, count, used[axes]) for axes, count in found.items())


def cost_at(terms: Iterable[CostTerm], sizes: Mapping[str, int]) -> Cost:
    """The cost where groups have these sizes; every group that the terms name is in `sizes`."""
    parameters = multiply_adds = 0
    for term in terms:
        entries = math.prod(
            sum(math.prod(sizes[part] if isinstance(part, str) else part for part in segment) for segment in axis)
            for axis in term.axes
        )
        parameters += term.tensors * entries
        multiply_adds += term.positions * entries
    return Cost(parameters, multiply_adds)


def dense_cost(spec: SymmetrySpec, sizes: Mapping[str, int], positions: Mapping[str, int] | None = None) -> Cost:
    """What the model costs as it is stored where groups have these sizes; a group that is not in `sizes` has its own.

    positions: as for `cost_terms`.
    """
    whole = {name: group.size for name, group in spec.groups.items()}
    return cost_at(cost_terms(spec, positions), {**whole, **sizes})


def block_cost(spec: SymmetrySpec, sharing: Mapping[str, Sharing], positions: Mapping[str, int] | None = None) -> Cost:
    """What of `dense_cost` is left without the weights between units that have no parent in common.

    sharing: of the groups with units kept apart, as matched or by `sharing_at`; the units of all others are of all parents.
    """
    parents = frozenset(parent for units in sharing.values() for owners, _ in units for parent in owners)
    parameters = multiply_adds = 0
    for name, tensor in _weights(spec):
        entries = _entries_with_parents(tensor, sharing, parents or frozenset({0}))
        parameters += entries
        multiply_adds += entries * _uses(spec, name, positions or {})
    return Cost(parameters, multiply_adds)


def sharing_at(size: int, widths: tuple[int, ...]) -> Sharing:
    """How the units of a merged group are shared when only its size is known.

    size: from the largest of `widths`, the parents' sizes, to their sum.  As many units as possible are of all parents, the
    rest are of one alone; for two parents there is no other way.
    """
    units = Counter[frozenset[int]]()
    left = dict(enumerate(widths))
    while left := {parent: width for parent, width in left.items() if width}:
        surplus = sum(left.values()) - size
        owners = tuple(left)
        if surplus < len(owners) - 1:  # not enough for one more of all parents
            owners = owners[: max(surplus, 0) + 1]
        count = max(1, min(*left.values(), surplus // (len(owners) - 1))) if len(owners) > 1 else left[owners[0]]
        units[frozenset(owners)] += count
        left = {parent: width - count * (parent in owners) for parent, width in left.items()}
        size -= count
    return tuple(units.items())


def _weights(spec: SymmetrySpec) -> Iterator[tuple[str, TensorSymmetry]]:
    """The tensors of floating-point numbers; counters and the numbers of positions are none."""
    return ((name, tensor) for name, tensor in spec.tensors.items() if not name.endswith(_WHOLE_NUMBERS))


_WHOLE_NUMBERS = ("num_batches_tracked", "position_ids")


def _uses(spec: SymmetrySpec, name: str, positions: Mapping[str, int]) -> int:
    """At how many output positions the model multiplies with this tensor, under its own name and those tied to it."""
    tied = [first for first, stored in spec.tied if stored == name and first not in spec.tensors]
    own = [name] if _is_multiplied(spec.tensors[name]) else []
    return sum(positions.get(each, 1) for each in (*own, *tied))


def _is_multiplied(tensor: TensorSymmetry) -> bool:
    """Whether it is a matrix or a kernel: not a vector, a table that is looked up, or a mask."""
    reads = any(factor.role is Role.READS for factor in tensor.factors)
    convolves = len(tensor.axes) == 4 and any(factor.group for factor in tensor.factors)
    return len(tensor.axes) > 1 and (reads or convolves)


def _entries_with_parents(tensor: TensorSymmetry, sharing: Mapping[str, Sharing], parents: frozenset[int]) -> int:
    """The entries of a tensor whose units have a parent in common."""
    entries = Counter({parents: 1})
    for axis in tensor.axes:
        along = Counter[frozenset[int]]()
        for segment in axis:
            units = Counter({parents: 1})
            for factor in segment:
                units = _paired(units, sharing.get(factor.group or "", ((parents, factor.size),)))
            along.update(units)
        entries = _paired(entries, along.items())
    return entries.total()


def _paired(left: Counter[frozenset[int]], right: Iterable[tuple[frozenset[int], int]]) -> Counter[frozenset[int]]:
    found = Counter[frozenset[int]]()
    for owners, count in right:
        for others, number in left.items():
            if owners & others:
                found[owners & others] += count * number
    return found
