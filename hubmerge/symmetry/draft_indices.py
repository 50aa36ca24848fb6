"""Indices of axes and what is known of them while a model is traced: which are one, which are products or concatenations."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence

__all__ = ["Axis", "Indices"]

Axis = tuple[int, ...]
"""The indices that an axis is the product of, outer first; empty for an axis of one entry."""


class Indices:
    """Every index of a trace: a number for each, united as the trace finds that two of them are one.

    An index is whole, a product of others (a view into heads), or a concatenation of others (a fused projection).  Where two that
    are to be one cannot be, because they are put together differently, both are held: nothing may be done to what is held.
    """

    def __init__(self) -> None:
        self._parent: list[int] = []
        self._size: list[int] = []
        self._factors: dict[int, Axis] = {}
        self._pieces: dict[int, Axis] = {}
        self._held: set[int] = set()
        self._constant: set[int] = set()

    def new(self, size: int, *, constant: bool = False) -> int:
        """A new index.  constant: what it counts are copies of one value, until it is united with an index of which that is not so."""
        self._parent.append(len(self._parent))
        self._size.append(size)
        if constant:
            self._constant.add(self._parent[-1])
        return self._parent[-1]

    def axis(self, size: int, *, constant: bool = False) -> Axis:
        """A new axis of this size."""
        return () if size == 1 else (self.new(size, constant=constant),)

    def is_constant(self, axis: Iterable[int]) -> bool:
        """Whether the values along the axis are copies of one."""
        return all(index in self._constant for index in self.factors(axis))

    def size(self, index: int) -> int:
        return self._size[index]

    def length(self, axis: Iterable[int]) -> int:
        """How many entries an axis has."""
        return math.prod(self._size[index] for index in axis)

    def find(self, index: int) -> int:
        """The one index that stands for all that are this one."""
        while self._parent[index] != index:
            self._parent[index] = self._parent[self._parent[index]]
            index = self._parent[index]
        return index

    def factors(self, axis: Iterable[int]) -> Axis:
        """The axis as the finest product that is known."""
        found: list[int] = []
        for index in map(self.find, axis):
            found += self.factors(self._factors[index]) if index in self._factors else [index]
        return tuple(found)

    def pieces(self, index: int) -> Axis:
        """What the index is the concatenation of; itself where it is whole, or a product."""
        index = self.find(index)
        if index not in self._pieces:
            return (index,)
        return tuple(itertools.chain.from_iterable(self.pieces(piece) for piece in self._pieces[index]))

    def is_held(self, index: int) -> bool:
        return self.find(index) in self._held

    def hold(self, axis: Iterable[int]) -> None:
        """Nothing may be done to these indices, nor to their parts."""
        for index in map(self.find, axis):
            self._held.add(index)
            self.hold(self._factors.get(index, ()))
            self.hold(self._pieces.get(index, ()))

    def leaves(self, axis: Iterable[int]) -> Axis:
        """Every whole index in the axis, pieces and factors taken apart."""
        found: list[int] = []
        for index in self.factors(axis):
            parts = self.pieces(index)
            found += parts if parts == (index,) else self.leaves(parts)
        return tuple(found)

    def unite(self, left: Iterable[int], right: Iterable[int]) -> None:
        """Two axes of one length are the same."""
        ours, theirs = list(self.factors(left)), list(self.factors(right))
        while ours and theirs:
            if not self._divides(ours[0], theirs[0]):
                self.hold([*ours, *theirs])
                return
            a, b = ours.pop(0), theirs.pop(0)
            small = min(self._size[a], self._size[b])
            if self._size[a] > small:
                a, *rest = self.split(a, (small, self._size[a] // small))
                ours = [*rest, *ours]
            elif self._size[b] > small:
                b, *rest = self.split(b, (small, self._size[b] // small))
                theirs = [*rest, *theirs]
            self._unite(a, b)
            ours, theirs = list(self.factors(ours)), list(self.factors(theirs))

    def _divides(self, a: int, b: int) -> bool:
        small, large = sorted((self._size[a], self._size[b]))
        whole = a if self._size[a] == large else b
        return large % small == 0 and (large == small or self.find(whole) not in self._pieces)

    def split(self, index: int, sizes: Sequence[int]) -> Axis:
        """The index as a product of factors of these sizes; a concatenation is held, and gets new factors that are held too."""
        index = self.find(index)
        parts = tuple(self.new(size, constant=index in self._constant) for size in sizes if size != 1)
        if index in self._pieces:
            self.hold([index, *parts])
            return parts
        self._factors[index] = parts
        if index in self._held:
            self.hold(parts)
        return parts

    def cut(self, index: int, points: Iterable[int]) -> None:
        """The index is a concatenation, with a boundary at each of `points`; a product is held instead."""
        index = self.find(index)
        size = self._size[index]
        inside = sorted({point for point in points if 0 < point < size})
        if not inside:
            return
        if index in self._factors:
            self.hold([index])
        elif index in self._pieces:
            start = 0
            for piece in self._pieces[index]:
                self.cut(piece, [point - start for point in inside])
                start += self._size[piece]
        else:
            bounds = [0, *inside, size]
            constant = index in self._constant
            self._pieces[index] = tuple(
                self.new(high - low, constant=constant) for low, high in itertools.pairwise(bounds)
            )
            if index in self._held:
                self.hold(self._pieces[index])

    def whole(self, axis: Axis) -> int:
        """One index for the whole axis."""
        if len(axis) == 1:
            return axis[0]
        index = self.new(self.length(axis))
        if axis:
            self._factors[index] = axis
        return index

    def joined(self, parts: Sequence[int]) -> Axis:
        """A new axis, the concatenation of these indices."""
        if len(parts) == 1:
            return (parts[0],)
        index = self.new(sum(self._size[part] for part in parts))
        self._pieces[index] = tuple(parts)
        return (index,)

    def _unite(self, a: int, b: int) -> None:
        a, b = self.find(a), self.find(b)
        if a == b:
            return
        if a in self._pieces and b in self._pieces:
            self._unite_pieces(a, b)
        elif a in self._factors and b in self._factors:
            self.unite((a,), (b,))
        elif (a in self._pieces and b in self._factors) or (b in self._pieces and a in self._factors):
            self.hold((a, b))
            return
        elif b in self._pieces or b in self._factors:
            a, b = b, a
        held = a in self._held or b in self._held
        if not (a in self._constant and b in self._constant):
            self._vary(a)
        self._parent[b] = a
        if held:
            self.hold((a,))

    def _vary(self, index: int) -> None:
        self._constant.discard(index)
        for part in (*self._factors.get(index, ()), *self._pieces.get(index, ())):
            self._vary(self.find(part))

    def _unite_pieces(self, a: int, b: int) -> None:
        for whole, other in ((a, b), (b, a)):
            ends = itertools.accumulate(self._size[piece] for piece in self.pieces(other))
            self.cut(whole, ends)
        ours, theirs = self.pieces(a), self.pieces(b)
        if [self._size[piece] for piece in ours] != [self._size[piece] for piece in theirs]:  # one is a product
            self.hold((a, b))
            return
        for left, right in zip(ours, theirs, strict=True):
            self._unite(left, right)
