"""The entries of a model in another's units that it has no number for: they are the other's, and how much of the model's own is left."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hubmerge.heterogeneous.record import DECIMALS
from hubmerge.symmetry.groups import Axis, SymmetrySpec
from hubmerge.symmetry.match import STATISTICS

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["CarriedNorms", "Flags", "entries_apart", "filled"]

Flags = NDArray[np.bool_]


def entries_apart(spec: SymmetrySpec, axes: Sequence[Axis], apart: Mapping[str, Flags]) -> tuple[Flags | None, ...]:
    """Which entries of every axis are of units without a partner; None for an axis without such.

    apart: group -> which of its units have none, (size,), or (outer's size, size) where the group is nested.
    """
    return tuple(_of_axis(spec, axis, apart) for axis in axes)


def _of_axis(spec: SymmetrySpec, axis: Axis, apart: Mapping[str, Flags]) -> Flags | None:
    parts = []
    for segment in axis:
        flags = np.zeros([factor.size for factor in segment], np.bool_)
        names = [factor.group for factor in segment]
        for i, name in enumerate(names):
            if name is None or name not in apart:
                continue
            outer = spec.groups[name].outer
            if outer is None:
                places = [i]
            elif outer in names:
                places = [names.index(outer), i]
            else:
                continue  # what all units share
            flags |= apart[name].reshape([factor.size if k in places else 1 for k, factor in enumerate(segment)])
        parts.append(flags.reshape(-1))
    found = np.concatenate(parts) if parts else np.zeros(0, np.bool_)
    return found if found.any() else None


def filled(own: Tensor, flags: Sequence[Flags | None], base: Tensor) -> Tensor:
    """`own` with the base's numbers in the entries that are flagged on some axis.  Both of one shape; the result has own's type."""
    import torch

    result = own.clone()
    for position, each in enumerate(flags):
        if each is not None:
            there = torch.from_numpy(each)
            result.movedim(position, 0)[there] = base.to(own.dtype).movedim(position, 0)[there]
    return result


@dataclass
class CarriedNorms:
    """How much of a model's weights came along, tensor by tensor as they are written; BatchNorm's statistics are no weights."""

    tensors: dict[str, float] = field(default_factory=dict)
    """The norm of what was carried over that of the whole tensor, of those of which not all was."""
    _squares: list[float] = field(default_factory=lambda: [0.0, 0.0])

    def add(self, name: str, before: Tensor, after: Tensor, flags: Sequence[Flags | None]) -> None:
        """One tensor, as it was and as it is in the base's units; flags: the entries of that which are the base's."""
        import torch

        if not before.is_floating_point() or name.endswith(STATISTICS):
            return
        whole = float(before.to(torch.float64).square().sum())
        left = whole
        if after is not before:
            own = after.to(torch.float64, copy=True)
            for position, each in enumerate(flags):
                if each is not None:
                    own.movedim(position, 0)[torch.from_numpy(each)] = 0
            left = float(own.square().sum())
        share = round(math.sqrt(left / whole), DECIMALS) if whole else 1.0
        if share != 1:
            self.tensors[name] = share
        self._squares[0] += left
        self._squares[1] += whole

    @property
    def share(self) -> float:
        """The same of all weights together."""
        left, whole = self._squares
        return round(math.sqrt(left / whole), DECIMALS) if whole else 1.0
