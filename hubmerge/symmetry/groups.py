"""What a symmetry spec is made of: kinds of groups, groups, and the axes of every tensor.  Frozen data, no torch.

A group is one index set that several tensor axes share (Ainsworth et al. 2023, arXiv:2209.04836, for permutations; the kinds
beyond them are those under which transformers and rectifier networks keep their function).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import Enum

__all__ = ["Axis", "Factor", "Group", "Kind", "Role", "Segment", "SymmetrySpec", "TensorSymmetry"]


class Kind(Enum):
    """What may be done to the index of a group without changing the model's function; the value is its name in tables."""

    PERMUTATION = "permutation"
    SIGNED = "permutation+signs"
    SCALED = "permutation+scales"
    SIGNED_SCALED = "permutation+signs+scales"
    INVERTIBLE = "invertible"
    PLANES = "planes"
    PLANE_SIGNS = "plane signs"
    TOKENS = "tokens"
    POSITIONS = "positions"
    LABELS = "labels"
    FIXED = "fixed"

    @property
    def permutes(self) -> bool:
        """Whether entries change places."""
        return self.value.startswith("permutation")

    @property
    def signs(self) -> bool:
        return self in {Kind.SIGNED, Kind.SIGNED_SCALED, Kind.PLANE_SIGNS}

    @property
    def scales(self) -> bool:
        return self in {Kind.SCALED, Kind.SIGNED_SCALED}

    @property
    def is_linear(self) -> bool:
        """Whether entries are mixed, so that an element is a matrix and not an order with factors."""
        return self in {Kind.INVERTIBLE, Kind.PLANES}

    @property
    def is_symmetry(self) -> bool:
        """Whether there is anything but the identity."""
        return self.permutes or self.signs or self.is_linear

    @property
    def is_orthogonal(self) -> bool:
        """Whether every element's inverse is its transpose, so that writers and readers change alike."""
        return not (self.scales or self.is_linear)


class Role(Enum):
    """How an axis takes part in a group; the value is its mark in tables."""

    WRITES = ""
    READS = "<"
    FOLLOWS = "="


@dataclass(frozen=True)
class Factor:
    """One factor of an axis.  group: None where no group acts.  size: entries of this factor."""

    group: str | None
    role: Role
    size: int

    def __str__(self) -> str:
        return f"{self.role.value}{self.group}" if self.group else str(self.size)


Segment = tuple[Factor, ...]
"""A piece of an axis, factorised, outer factor first."""

Axis = tuple[Segment, ...]
"""An axis as the concatenation of its segments, nearly always one."""


@dataclass(frozen=True)
class TensorSymmetry:
    """The axes of one tensor.

    name: as stored.  row, written: its name and its axes in the family's table, loops' variables in braces.
    """

    name: str
    row: str
    written: str
    axes: tuple[Axis, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(sum(math.prod(factor.size for factor in segment) for segment in axis) for axis in self.axes)

    @property
    def factors(self) -> tuple[Factor, ...]:
        """Every factor of every axis, from left to right."""
        return tuple(factor for axis in self.axes for segment in axis for factor in segment)

    def __str__(self) -> str:
        return " ".join(_axis_text(axis) for axis in self.axes) or "-"


def _axis_text(axis: Axis) -> str:
    texts = [str(part[0]) if len(part) == 1 else f"({' '.join(str(factor) for factor in part)})" for part in axis]
    return texts[0] if len(texts) == 1 else f"[{'|'.join(texts)}]"


@dataclass(frozen=True)
class Group:
    """One group of a model.

    row: its name in the family's table, loops' variables in braces.  outer: the group for each of whose entries it is there
    once.  norm: what normalises it (rms, layer, post, batch).  note: why it is fixed, where its table says otherwise.
    """

    name: str
    row: str
    kind: Kind
    size: int
    outer: str | None = None
    norm: str | None = None
    note: str = ""

    @property
    def normed_as_a_whole(self) -> bool:
        """Whether a norm divides by all its units together, so that one unit's change is the others' too."""
        return self.norm not in {None, "batch"}


@dataclass(frozen=True)
class SymmetrySpec:
    """The symmetries of one model: every tensor's axes, and every group by its name, both in the order of the table.

    tied: (name, stored name) of tensors that are one.  same: (name, name here) of groups that are one in this model.
    """

    family: str
    groups: Mapping[str, Group]
    tensors: Mapping[str, TensorSymmetry]
    tied: tuple[tuple[str, str], ...] = ()
    same: tuple[tuple[str, str], ...] = ()

    def named(self, names: Collection[str]) -> frozenset[str]:
        """The groups that go by one of `names`, or whose rows do."""
        return frozenset(name for name, group in self.groups.items() if not {name, group.row}.isdisjoint(names))

    def unknown(self, names: Collection[str]) -> frozenset[str]:
        """Those of `names` that are neither a group's nor a row's."""
        return frozenset(names).difference(*((name, group.row) for name, group in self.groups.items()))

    def members(self, group: str, role: Role) -> tuple[str, ...]:
        """The tensors with an axis of this role in the group, in the order of `tensors`."""
        return tuple(
            name
            for name, tensor in self.tensors.items()
            if any(factor.group == group and factor.role is role for factor in tensor.factors)
        )
