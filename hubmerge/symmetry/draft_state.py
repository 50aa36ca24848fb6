"""What is known while a traced model is walked through: the axes of every value, and how tensors take part in them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hubmerge.symmetry.draft_indices import Axis, Indices
from hubmerge.symmetry.groups import Role

if TYPE_CHECKING:
    from torch.fx import Node

__all__ = ["Axes", "Place", "Rule", "State", "arguments", "shape_of"]

Axes = tuple[Axis, ...]
"""The axes of one value."""

Place = tuple[str, int]
"""A tensor's name and the number of one of its axes."""


@dataclass
class State:
    """A walk through one graph.

    values: of every node that is a tensor its axes; of one that gives several tensors, theirs.  stored: the axes of the model's own
    tensors.  origin: of a node that is a stored tensor in another shape, where each of its axes lies in it.  roles: of the places
    that the rules could tell.  norms: index -> what normalises it.  meetings: axes that two computed values are multiplied and
    summed along, with the second.  unknown: operations without a rule.
    """

    indices: Indices = field(default_factory=Indices)
    values: dict[Node, Axes | tuple[Axes, ...]] = field(default_factory=dict)
    stored: dict[str, Axes] = field(default_factory=dict)
    origin: dict[Node, tuple[Place | None, ...]] = field(default_factory=dict)
    roles: dict[Place, Role] = field(default_factory=dict)
    norms: dict[int, str] = field(default_factory=dict)
    meetings: list[tuple[Axis, Node]] = field(default_factory=list)
    unknown: Counter[str] = field(default_factory=Counter)

    def axes(self, node: Any) -> Axes:
        """The axes of a node that is one tensor."""
        found: Axes = self.values[node]  # type: ignore[assignment]
        return found

    def fresh(self, shape: Sequence[int], *, held: bool = False, constant: bool = False) -> Axes:
        """New axes of this shape.  held: nothing may be done to them.  constant: as for `Indices.new`."""
        axes = tuple(self.indices.axis(size, constant=constant) for size in shape)
        if held:
            for axis in axes:
                self.indices.hold(axis)
        return axes

    def hold(self, axes: Axes) -> None:
        for axis in axes:
            self.indices.hold(axis)

    def give_role(self, node: Any, axis: int, role: Role) -> bool:
        """Axis `axis` of a stored tensor takes part so; False where `node` is none, but computed."""
        place = self.origin.get(node, ())[axis : axis + 1]
        if not place or place[0] is None:
            return False
        self.roles[place[0]] = role
        return True

    def normed(self, axis: Axis, kind: str) -> None:
        for index in self.indices.leaves(axis):
            self.norms.setdefault(index, kind)


Rule = Callable[[State, "Node"], Axes | tuple[Axes, ...]]
"""Gives the axes of what an operation computes, and unites or holds those that it says something of."""


def shape_of(node: Any) -> tuple[int, ...]:
    """The shape of the tensor that a node computes."""
    return tuple(int(size) for size in node.meta["val"].shape)


def arguments(node: Node) -> tuple[Any, ...]:
    """What a node's operation is given, nodes and numbers."""
    return node.args
