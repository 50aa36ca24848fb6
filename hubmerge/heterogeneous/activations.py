"""How alike the units of two models are on the same data: correlations of what they compute, streamed.

Li et al. 2016, Convergent Learning, arXiv:1511.07543; with the sum over all places where a group can be seen, as PLeaS has it
(arXiv:2407.02447, appendix).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hubmerge.heterogeneous.batches import Batch
from hubmerge.heterogeneous.correlation_sums import Correlation, Sums
from hubmerge.heterogeneous.layers import Layer, channels_last, layers_of
from hubmerge.heterogeneous.passes import AT_ONCE, passes
from hubmerge.heterogeneous.side_by_side import shown_together
from hubmerge.symmetry.groups import Kind, Segment, SymmetrySpec

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["Correlation", "Seen", "bytes_of_groups", "correlations", "correlations_by_group", "seen_batch_by_batch"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class _View:
    """A segment of a module's input or output channels, and the groups that it shows."""

    layer: Layer
    behind: bool
    start: int
    segment: Segment


def correlations(
    models: Sequence[nn.Module],
    specs: Sequence[SymmetrySpec],
    batches: Iterable[Batch],
    *,
    without: Collection[str] = (),
) -> tuple[dict[str, Correlation], ...]:
    """The correlations of every other model's units with the first one's, by group; of all groups at once (`correlations_by_group`)."""
    found: tuple[dict[str, Correlation], ...] = tuple({} for _ in models[1:])
    for part in correlations_by_group(models, specs, batches, without=without):
        for groups, new in zip(found, part, strict=True):
            groups.update(new)
    return found


def correlations_by_group(
    models: Sequence[nn.Module],
    specs: Sequence[SymmetrySpec],
    batches: Iterable[Batch],
    *,
    without: Collection[str] = (),
    most: int = AT_ONCE,
) -> Iterator[tuple[dict[str, Correlation], ...]]:
    """The correlations of every other model's units with the first one's: one group, of each other model, then the next.

    A group is seen where a layer reads it, and where none does, in what the layers that write it give; so is one that is read
    only together with a group between it and its outer one.  A unit that does not vary is alike to none.  Tokens that the batch's
    masks leave out do not count.  without: groups, by name or by their row in the table, that need not be looked at, nor what is
    inside them.  most: bytes of the sums that are held at once: the models are run on the batches as often as it takes, which changes
    no number.
    """
    views = _views_of_all(models, specs, without)
    tables = [_Means(specs[0], spec) for spec in specs[1:]]
    sizes = [sum(_bytes(ours, other) for other in others) for ours, *others in zip(*views, strict=True)]
    parts = passes([_named(view) for view in views[0]], sizes, most)
    kept = list(batches) if len(parts) > 1 and isinstance(batches, Iterator) else batches
    for part, after in zip(parts, [*parts[1:], []], strict=True):
        own = [[each[i] for i in part] for each in views]
        following = {_named(views[0][i]) for i in after}
        sums = _added(models, own, kept)
        for group in dict.fromkeys(map(_named, own[0])):
            there = [i for i, view in enumerate(own[0]) if _named(view) == group]
            for table, other, rows in zip(tables, own[1:], sums, strict=True):
                taken = [rows[i] for i in there]
                for i in there:
                    rows[i] = Sums()  # no table stands beside the sums that it is made of
                table.add([own[0][i] for i in there], [other[i] for i in there], taken)
            if group not in following:
                yield tuple(table.finished(following) for table in tables)


def _named(view: _View) -> str:
    return view.segment[0].group or ""


def _bytes(ours: _View, theirs: _View) -> int:
    own, other = (math.prod(factor.size for factor in view.segment) for view in (ours, theirs))
    return 8 * own * other


def _added(models: Sequence[nn.Module], views: Sequence[Sequence[_View]], batches: Iterable[Batch]) -> list[list[Sums]]:
    """The sums of the views of every other model with those of the first, over all batches."""
    sums = [[Sums() for _ in views[0]] for _ in models[1:]]
    for batch in batches:
        for number, (ours, *others) in _seen_together(models, views, batch):
            for theirs, rows in zip(others, sums, strict=True):
                rows[number].add(ours, theirs)
    return sums


def bytes_of_groups(models: Sequence[nn.Module], specs: Sequence[SymmetrySpec]) -> dict[str, int]:
    """The groups that `seen_batch_by_batch` shows, each with what the products of its views take."""
    found: dict[str, int] = {}
    ours, theirs = _views_of_all(models, specs, signs=True)
    for left, right in zip(ours, theirs, strict=True):
        found[_named(left)] = found.get(_named(left), 0) + _bytes(left, right)
    return found


@dataclass(frozen=True)
class Seen:
    """One view of two models on one batch.

    segments: of the first and of the other.  behind: whether it is the layer's output.  ours, theirs: (rows, channels).
    """

    segments: tuple[Segment, Segment]
    behind: bool
    ours: Tensor
    theirs: Tensor


def seen_batch_by_batch(
    models: tuple[nn.Module, nn.Module],
    specs: tuple[SymmetrySpec, SymmetrySpec],
    batches: Iterable[Batch],
    groups: Collection[str],
) -> Iterator[tuple[int, Seen]]:
    """Of every batch the views that `correlations` takes, by their numbers, and those of features that only change their sign.

    groups: those of these groups alone, and of what is inside them.
    """
    views = _views_of_all(models, specs, signs=True)
    there = [i for i, view in enumerate(views[0]) if _named(view) in groups]
    own, other = ([each[i] for i in there] for each in views)
    for batch in batches:
        for number, (x, y) in _seen_together(models, (own, other), batch):
            left, right = own[number], other[number]
            yield number, Seen((left.segment, right.segment), left.behind, x, y)


def _views_of_all(
    models: Sequence[nn.Module], specs: Sequence[SymmetrySpec], without: Collection[str] = (), *, signs: bool = False
) -> list[list[_View]]:
    """The views of every model, those of one place at one number: classes of one table can have their modules in another order."""
    views = [list(_views(model, spec, without, signs=signs)) for model, spec in zip(models, specs, strict=True)]
    places = [[(view.layer.name, view.behind, view.start) for view in own] for own in views]
    found = [dict(zip(*pair, strict=True)) for pair in zip(places, views, strict=True)]
    # layers of other depths are named otherwise, and are in the order of the modules
    return [
        [own[place] for place in places[0]] if own.keys() == found[0].keys() else each
        for own, each in zip(found, views, strict=True)
    ]


def _views(model: nn.Module, spec: SymmetrySpec, without: Collection[str], *, signs: bool = False) -> Iterator[_View]:
    layers = layers_of(model, spec)
    read = {name for layer in layers for segment in layer.inner for name in _seen_alone(segment)}
    left = set(spec.named(without))
    left |= {group.name for group in spec.groups.values() if group.outer in left}
    for layer in layers:
        yield from _of_axis(layer, spec, behind=False, wanted=read - left, signs=signs)
        yield from _of_axis(layer, spec, behind=True, wanted=set(spec.groups) - read - left, signs=signs)


def _seen_alone(segment: Segment) -> Iterator[str]:
    """The groups of a segment, without the innermost of three."""
    return (factor.group for factor in segment[:2] if factor.group is not None)


def _of_axis(layer: Layer, spec: SymmetrySpec, *, behind: bool, wanted: set[str], signs: bool) -> Iterator[_View]:
    start = 0
    for segment in layer.outer if behind else layer.inner:
        names = [factor.group for factor in segment if factor.group is not None]
        if any(name in wanted and (_is_free(spec, name) or (signs and _has_signs(spec, name))) for name in names):
            yield _View(layer, behind, start, segment)
        start += math.prod(factor.size for factor in segment)


def _is_free(spec: SymmetrySpec, name: str) -> bool:
    kind = spec.groups[name].kind if name else Kind.FIXED
    return kind.permutes or kind.is_linear


def _has_signs(spec: SymmetrySpec, name: str) -> bool:
    return spec.groups[name].kind is Kind.PLANE_SIGNS


def _seen_together(
    models: Sequence[nn.Module], views: Sequence[Sequence[_View]], batch: Batch
) -> Iterator[tuple[int, list[Tensor]]]:
    """The number of a view, and what it shows of one batch in every model, (rows, channels of the segment): in the order of the models' layers."""
    places = [[(view.layer.name, view.behind) for view in own] for own in views]
    for number, values in shown_together(models, places, batch):
        yield number, [_rows(own[number], each, batch) for own, each in zip(views, values, strict=True)]


def _rows(view: _View, values: Tensor, batch: Batch) -> Tensor:
    mask = None if view.layer.mask is None else batch.get(view.layer.mask)
    size = math.prod(factor.size for factor in view.segment)
    return channels_last(values, view.layer.kind, mask)[:, view.start : view.start + size]


class _Means:
    """The means over every group's views, of one other model with the first; a group is given up when it is finished."""

    def __init__(self, spec: SymmetrySpec, other: SymmetrySpec) -> None:
        self._spec, self._other = spec, other
        self._found: dict[tuple[str, ...], Floats] = {}
        self._counts = Counter[tuple[str, ...]]()

    def add(self, ours: Sequence[_View], theirs: Sequence[_View], sums: list[Sums]) -> None:
        """Some more views.  The sums are used up, so that no view is held twice."""
        for left, right in zip(ours, theirs, strict=True):
            matrix = sums.pop(0).correlation()
            names = tuple(factor.group or "" for factor in left.segment)
            if not all(_is_free(self._spec, name) for name in names[:2]):
                continue
            values = matrix.reshape([factor.size for view in (left, right) for factor in view.segment])
            self._found[names] = self._found[names] + values if names in self._found else values
            self._counts[names] += 1

    def finished(self, following: Collection[str]) -> dict[str, Correlation]:
        """The groups of which no views are to come; following: those of which some are."""
        done = [names for names in self._found if names[0] not in following]
        counts, found = self._counts, {names: self._found.pop(names) for names in done}
        means = {names: values / counts[names] if counts[names] > 1 else values for names, values in found.items()}
        return {
            name: Correlation(
                means.get((name,), np.zeros((self._spec.groups[name].size, self._other.groups[name].size))),
                {names[1]: values for names, values in means.items() if names[0] == name and len(names) == 2},
                {
                    (names[1], names[2]): values
                    for names, values in means.items()
                    if names[0] == name and len(names) == 3
                },
            )
            for name in dict.fromkeys(names[0] for names in means)
        }
