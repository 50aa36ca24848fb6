"""Rules of operations that move entries and compute nothing: views, orders of axes, slices, concatenations, lookups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hubmerge.symmetry.draft_indices import Axis
from hubmerge.symmetry.draft_state import Axes, Rule, State, arguments, shape_of
from hubmerge.symmetry.groups import Role

if TYPE_CHECKING:
    from torch.fx import Node

__all__ = ["SHAPING"]


def _same(state: State, node: Node) -> Axes:
    source = arguments(node)[0]
    if source in state.origin:
        state.origin[node] = state.origin[source]
    return state.axes(source)


def _dim(value: Any, rank: int) -> int:
    return int(value) % rank if rank else 0


def _view(state: State, node: Node) -> Axes:
    """Factors are dealt out to the new axes, outer first; where an axis ends inside a factor, that is split."""
    source: Any = arguments(node)[0]
    shape = shape_of(node)
    _keep_origin(state, node, source, shape)
    left = [index for axis in state.axes(source) for index in state.indices.factors(axis)]
    result: list[Axis] = []
    for size in shape:
        taken: list[int] = []
        while (missing := size // state.indices.length(taken)) > 1:
            if not left:
                return _given_up(state, source, shape)
            index = left.pop(0)
            entries = state.indices.size(index)
            if missing % entries == 0:
                taken.append(index)
            elif entries % missing == 0:
                first, second = state.indices.split(index, (missing, entries // missing))
                taken.append(first)
                left = [*state.indices.factors((second,)), *left]
            else:
                return _given_up(state, source, shape)
        result.append(tuple(taken))
    return tuple(result)


def _given_up(state: State, source: Any, shape: Sequence[int]) -> Axes:
    state.hold(state.axes(source))
    return state.fresh(shape, held=True)


def _keep_origin(state: State, node: Node, source: Any, shape: Sequence[int]) -> None:
    """A stored tensor with axes of one entry more or less is still that tensor."""
    if source not in state.origin:
        return
    places = [place for place, size in zip(state.origin[source], shape_of(source), strict=True) if size != 1]
    if [size for size in shape if size != 1] == [size for size in shape_of(source) if size != 1]:
        rest = iter(places)
        state.origin[node] = tuple(None if size == 1 else next(rest) for size in shape)


def _permute(state: State, node: Node) -> Axes:
    axes = state.axes(arguments(node)[0])
    order = [_dim(axis, len(axes)) for axis in arguments(node)[1]]
    if arguments(node)[0] in state.origin:
        places = state.origin[arguments(node)[0]]
        state.origin[node] = tuple(places[axis] for axis in order)
    return tuple(axes[axis] for axis in order)


def _expand(state: State, node: Node) -> Axes:
    """An axis of one entry becomes any: what it counts is a new index."""
    source: Any = arguments(node)[0]
    shape, old = shape_of(node), shape_of(source)
    added = len(shape) - len(old)
    axes = state.axes(source)
    if source in state.origin:
        state.origin[node] = (*[None] * added, *state.origin[source])
    return tuple(
        axes[i - added] if i >= added and old[i - added] == size else state.indices.axis(size, constant=True)
        for i, size in enumerate(shape)
    )


def _repeat(state: State, node: Node) -> Axes:
    axes, times = state.axes(arguments(node)[0]), list(arguments(node)[1])
    padded = [*[()] * (len(times) - len(axes)), *axes]
    return tuple((*state.indices.axis(int(n), constant=True), *axis) for n, axis in zip(times, padded, strict=True))


def _piece(state: State, axis: Axis, start: int, end: int) -> Axis:
    """The entries from start to end of an axis."""
    outer, *rest = state.indices.factors(axis)
    inner = state.indices.length(rest)
    if start % inner or end % inner:
        state.indices.hold(axis)
        return state.fresh((end - start,), held=True)[0]
    low, high = start // inner, end // inner
    state.indices.cut(outer, (low, high))
    found, at = [], 0
    for piece in state.indices.pieces(outer):
        if low <= at and at + state.indices.size(piece) <= high:
            found.append(piece)
        at += state.indices.size(piece)
    if sum(map(state.indices.size, found)) != high - low:  # a product, which was held
        state.indices.hold(axis)
        return state.fresh((end - start,), held=True)[0]
    return (*state.indices.joined(found), *rest)


def _slice(state: State, node: Node) -> Axes:
    source, *rest = arguments(node)
    axes = list(state.axes(source))
    dim = _dim(rest[0] if rest else 0, len(axes))
    old, new = shape_of(source)[dim], shape_of(node)[dim]
    if old == new:
        return _same(state, node)
    first = rest[1] if len(rest) > 1 else 0
    start = 0 if first is None else min(int(first) % old if int(first) < 0 else int(first), old)
    step = int(rest[3]) if len(rest) > 3 else 1
    if step != 1 or new == 0:
        state.indices.hold(axes[dim])
        axes[dim] = state.fresh((new,), held=True)[0]
    else:
        axes[dim] = _piece(state, axes[dim], start, start + new)
    return tuple(axes)


def _split(state: State, node: Node) -> tuple[Axes, ...]:
    source: Any = arguments(node)[0]
    axes = state.axes(source)
    dim = _dim(arguments(node)[2] if len(arguments(node)) > 2 else node.kwargs.get("dim", 0), len(axes))
    result, start = [], 0
    for value in node.meta["val"]:
        end = start + int(value.shape[dim])
        result.append((*axes[:dim], _piece(state, axes[dim], start, end), *axes[dim + 1 :]))
        start = end
    return tuple(result)


def _cat(state: State, node: Node) -> Axes:
    values: Any = arguments(node)[0]
    parts = [state.axes(value) for value in values if len(shape_of(value)) == len(shape_of(node))]
    dim = _dim(arguments(node)[1] if len(arguments(node)) > 1 else 0, len(parts[0]))
    for other in parts[1:]:
        for i, (left, right) in enumerate(zip(parts[0], other, strict=True)):
            if i != dim:
                state.indices.unite(left, right)
    joined = state.indices.joined([state.indices.whole(part[dim]) for part in parts])
    return (*parts[0][:dim], joined, *parts[0][dim + 1 :])


def _select(state: State, node: Node) -> Axes:
    axes = state.axes(arguments(node)[0])
    dim = _dim(arguments(node)[1], len(axes))
    state.indices.hold(axes[dim])
    return (*axes[:dim], *axes[dim + 1 :])


def _embedding(state: State, node: Node) -> Axes:
    table, places = arguments(node)[:2]
    state.indices.hold(state.axes(table)[0])
    state.give_role(table, 1, Role.WRITES)
    return (*state.axes(places), state.axes(table)[1])


def _index(state: State, node: Node) -> Axes:
    """What is looked up by number stays in its order."""
    axes, places = state.axes(arguments(node)[0]), list(arguments(node)[1])
    looked = [i for i, place in enumerate(places) if place is not None]
    for i in looked:
        state.indices.hold(axes[i])
    rank = len(shape_of(node)) - (len(axes) - len(looked))
    together = looked == list(range(looked[0], looked[-1] + 1))
    at = looked[0] if together else 0
    new = state.fresh(shape_of(node)[at : at + rank], held=True)
    rest = [axis for i, axis in enumerate(axes) if i not in looked]
    return (*rest[:at], *new, *rest[at:])


def _gather(state: State, node: Node) -> Axes:
    source, dim, places = arguments(node)[:3]
    axes, found = state.axes(source), state.axes(places)
    at = _dim(dim, len(axes))
    for i, (left, right) in enumerate(zip(axes, found, strict=True)):
        if i == at or shape_of(source)[i] != shape_of(places)[i]:
            state.indices.hold((*left, *right))
        else:
            state.indices.unite(left, right)
    return found


def _free(state: State, node: Node) -> Axes:
    """A tensor of one value everywhere: any order of it is the same."""
    return state.fresh(shape_of(node), constant=True)


def _counted(state: State, node: Node) -> Axes:
    return state.fresh(shape_of(node), held=True)


SHAPING: Mapping[str, Rule] = {
    **dict.fromkeys(("clone", "_to_copy", "alias", "detach", "lift_fresh_copy", "contiguous", "copy"), _same),
    **dict.fromkeys(("view", "_unsafe_view", "reshape", "unsqueeze", "squeeze"), _view),
    **dict.fromkeys(("full", "zeros", "ones", "empty", "scalar_tensor", "full_like", "zeros_like", "ones_like"), _free),
    **dict.fromkeys(("arange", "eye", "rand", "randn"), _counted),
    **dict.fromkeys(("split", "split_with_sizes"), _split),
    "permute": _permute,
    "expand": _expand,
    "repeat": _repeat,
    "slice": _slice,
    "cat": _cat,
    "select": _select,
    "embedding": _embedding,
    "index": _index,
    "gather": _gather,
}
