"""What two models show of the features inside their units (attention heads): second moments, of activations or of weights."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hubmerge.free_memory import return_free_memory
from hubmerge.heterogeneous.activations import Seen, bytes_of_groups, seen_batch_by_batch
from hubmerge.heterogeneous.batches import Batch
from hubmerge.heterogeneous.maps import Maps, encoded
from hubmerge.heterogeneous.passes import AT_ONCE, passes
from hubmerge.symmetry.groups import Role, Segment, SymmetrySpec

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["UnitView", "groups_with_features", "views_of_activations", "views_of_weights"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class UnitView:
    """One place where a group's units and the features inside them are seen in both models.

    segments: of the first model and of the other, the unit's factor first.  inverted: what is seen changes by the inverse transposed
    of what the features change by.  ours, theirs: (units, features, features), of each unit; cross: (units, other's units, features,
    other's features).
    """

    segments: tuple[Segment, Segment]
    inverted: bool
    ours: Floats
    theirs: Floats
    cross: Floats

    @property
    def names(self) -> tuple[str | None, ...]:
        return tuple(factor.group for factor in self.segments[0])


def groups_with_features(spec: SymmetrySpec) -> frozenset[str]:
    """The groups whose units hold features that may be mixed, turned or change sign: attention heads."""
    inner = [group for group in spec.groups.values() if group.outer is not None and not group.kind.permutes]
    return frozenset(group.outer for group in inner if group.outer is not None and group.kind.is_symmetry)


class _Sums:
    """Products of both models' rows, added up in float64 over batches."""

    def __init__(self, segments: tuple[Segment, Segment], *, inverted: bool) -> None:
        self._segments, self._inverted = segments, inverted
        self._rows = 0
        self._sums: list[Tensor] = []

    @property
    def group(self) -> str:
        return self._segments[0][0].group or ""

    def add(self, ours: Tensor, theirs: Tensor) -> None:
        """ours, theirs: (rows, channels)."""
        import torch

        x, y = (
            rows.to(torch.float64).reshape(len(rows), segment[0].size, -1)
            for rows, segment in zip((ours, theirs), self._segments, strict=True)
        )
        new = [
            torch.einsum("rua,rub->uab", x, x),
            torch.einsum("rua,rub->uab", y, y),
            torch.einsum("rua,rvb->uvab", x, y),
            x.sum(0),
            y.sum(0),
        ]
        if self._sums:
            for total, each in zip(self._sums, new, strict=True):
                total.add_(each)
        else:
            self._sums = new
        self._rows += len(x)

    def view(self, *, centred: bool) -> UnitView:
        import torch

        xx, yy, xy, x, y = self._sums
        if centred:
            n = self._rows
            xx = xx - torch.einsum("ua,ub->uab", x, x) / n
            yy = yy - torch.einsum("ua,ub->uab", y, y) / n
            xy = xy - torch.einsum("ua,vb->uvab", x, y) / n
        return UnitView(self._segments, self._inverted, xx.numpy(), yy.numpy(), xy.numpy())


def views_of_activations(
    models: tuple[nn.Module, nn.Module],
    specs: tuple[SymmetrySpec, SymmetrySpec],
    batches: Sequence[Batch],
    groups: Collection[str],
    *,
    most: int = AT_ONCE,
) -> Iterator[tuple[str, list[UnitView]]]:
    """Group by group; both models see the same tokens or pictures.

    most: bytes of the products that are held at once: the models are run on the batches as often as it takes, which changes no number.
    """
    sizes = {name: size for name, size in bytes_of_groups(models, specs).items() if name in groups}
    names = list(sizes)
    for part in passes(names, list(sizes.values()), most):
        sums: dict[int, _Sums] = {}
        for number, view in seen_batch_by_batch(models, specs, batches, {names[i] for i in part}):
            if len(view.segments[0]) > 1:
                sums.setdefault(number, _sums_of(view)).add(view.ours, view.theirs)
        held = [sums.pop(number) for number in sorted(sums)]
        for name in dict.fromkeys(own.group for own in held):
            yield name, [own.view(centred=True) for own in held if own.group == name]
            held = [own for own in held if own.group != name]
            return_free_memory()  # what heads are matched with is in many pieces, which the C library would keep


def _sums_of(view: Seen) -> _Sums:
    return _Sums(view.segments, inverted=view.behind and view.segments[0][-1].role is Role.READS)


def views_of_weights(
    specs: tuple[SymmetrySpec, SymmetrySpec],
    tensors: tuple[Mapping[str, Tensor], Mapping[str, Tensor]],
    maps: Maps,
    groups: Collection[str],
) -> Iterator[tuple[str, list[UnitView]]]:
    """The same of the rows of every matrix.  maps: of the other model alone, for the groups on the matrices' other axes."""
    parts = (part for each in specs[0].tensors.values() if len(each.axes) == 2 for axis in each.axes for part in axis)
    for name in dict.fromkeys(part[0].group for part in parts if len(part) > 1):
        if name is not None and name in groups:
            yield name, list(_weight_views(specs, tensors, maps, {name}))


def _weight_views(
    specs: tuple[SymmetrySpec, SymmetrySpec],
    tensors: tuple[Mapping[str, Tensor], Mapping[str, Tensor]],
    maps: Maps,
    wanted: set[str],
) -> Iterator[UnitView]:
    import torch

    for name, symmetry in specs[0].tensors.items():
        for position, axis in enumerate(symmetry.axes):
            if len(symmetry.axes) != 2 or not any(len(part) > 1 and part[0].group in wanted for part in axis):
                continue
            theirs_axes = specs[1].tensors[name].axes
            other = tensors[1][name].to(torch.float64).movedim(1 - position, 0)
            other = encoded(other, theirs_axes[1 - position], maps, 0).T
            own = tensors[0][name].to(torch.float64).movedim(position, 0)
            pieces = (_split(own, axis), _split(other, theirs_axes[position]))
            for left, right, x, y in zip(axis, theirs_axes[position], *pieces, strict=True):
                if len(left) > 1 and left[0].group in wanted:
                    sums = _Sums((left, right), inverted=left[-1].role is Role.READS)
                    sums.add(x.T, y.T)
                    yield sums.view(centred=False)


def _split(values: Tensor, axis: Sequence[Segment]) -> Sequence[Tensor]:
    import torch

    return torch.split(values, [math.prod(factor.size for factor in segment) for segment in axis])
