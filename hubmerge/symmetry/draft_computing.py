"""Rules of operations that compute: entry by entry, sums, products of matrices, convolutions, norms, pooling."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hubmerge.symmetry.draft_state import Axes, Rule, State, arguments, shape_of
from hubmerge.symmetry.groups import Role

if TYPE_CHECKING:
    from torch.fx import Node

__all__ = ["COMPUTING", "entrywise", "unknown"]


def entrywise(state: State, node: Node) -> Axes:
    """Axes that stand at one place, counted from the last, are one index; those of one entry, and copies of one, are no bond."""
    operands = [value for value in node.all_input_nodes if value in state.values]
    shape = shape_of(node)
    result = []
    for i, size in enumerate(shape, -len(shape)):
        there = [state.axes(operand)[i] for operand in operands if len(state.axes(operand)) >= -i]
        there = [axis for axis in there if axis and state.indices.length(axis) == size]
        vary = [axis for axis in there if not state.indices.is_constant(axis)]
        for axis in vary[1:]:
            state.indices.unite(vary[0], axis)
        result.append(vary[0] if vary else state.indices.axis(size, constant=True))
    if len(operands) == 1 and operands[0] in state.origin and shape_of(operands[0]) == shape:
        state.origin[node] = state.origin[operands[0]]
    elif len(operands) == 2 and _name(node) in {"mul", "div"}:
        for operand in operands:
            _gain(state, operand)
    return tuple(result)


def _name(node: Node) -> str:
    return str(node.target).split(".")[1]


def _gain(state: State, operand: Node) -> None:
    """A stored vector that values are multiplied by goes along with their index."""
    if operand in state.origin and sum(size > 1 for size in shape_of(operand)) == 1:
        for axis in range(len(shape_of(operand))):
            state.give_role(operand, axis, Role.FOLLOWS)


def _matrices(state: State, left: Any, right: Any) -> Axes:
    ours, theirs = state.axes(left), state.axes(right)
    for a, b in zip(ours[:-2], theirs[:-2], strict=True):
        state.indices.unite(a, b)
    state.indices.unite(ours[-1], theirs[-2])
    stored = [state.give_role(left, len(ours) - 1, Role.READS), state.give_role(right, len(theirs) - 2, Role.READS)]
    if not any(stored):
        state.meetings.append((ours[-1], right))
    return (*ours[:-1], theirs[-1])


def _mm(state: State, node: Node) -> Axes:
    return _matrices(state, arguments(node)[0], arguments(node)[1])


def _addmm(state: State, node: Node) -> Axes:
    bias, left, right = arguments(node)[:3]
    axes = _matrices(state, left, right)
    added = state.axes(bias)
    for i, axis in enumerate(added, len(axes) - len(added)):
        if axis:
            state.indices.unite(axis, axes[i])
    return axes


def _convolution(state: State, node: Node) -> Axes:
    """Channels of the input are read, those of the output written, in as many blocks as there are groups."""
    pictures, kernel, bias, *_, groups = arguments(node)
    values, weight = state.axes(pictures), state.axes(kernel)
    transposed = bool(arguments(node)[6])
    inner, outer = (weight[0], weight[1]) if transposed else (weight[1], weight[0])
    state.hold(weight[2:])
    state.hold(values[2:])
    blocks = state.indices.axis(int(groups))
    if not blocks:
        state.indices.unite(values[1], inner)
        state.give_role(kernel, 0 if transposed else 1, Role.READS)
        channels = outer
    elif transposed:
        state.indices.unite(values[1], inner)
        state.indices.unite(inner, (*blocks, *state.indices.axis(state.indices.length(inner) // int(groups))))
        channels = (*blocks, *outer)
    else:
        state.indices.unite(values[1], (*blocks, *inner))
        state.indices.unite(outer, (*blocks, *state.indices.axis(state.indices.length(outer) // int(groups))))
        state.give_role(kernel, 1, Role.READS)
        state.give_role(kernel, 0, Role.FOLLOWS if not inner else Role.WRITES)
        channels = outer
    if bias is not None:
        state.indices.unite(state.axes(bias)[0], channels)
    return (values[0], channels, *state.fresh(shape_of(node)[2:], held=True))


def _along(state: State, node: Any, axis: Any, role: Role) -> None:
    if node is not None:
        state.indices.unite(state.axes(node)[0], axis)
        state.give_role(node, 0, role)


def _layer_norm(state: State, node: Node) -> tuple[Axes, ...]:
    source, shape, gain, bias = arguments(node)[:4]
    axes = state.axes(source)
    first = len(axes) - len(shape)
    for stored, role in ((gain, Role.FOLLOWS), (bias, Role.WRITES)):
        if stored is not None:
            for i, axis in enumerate(state.axes(stored)):
                state.indices.unite(axis, axes[first + i])
                state.give_role(stored, i, role)
    for axis in axes[first:]:
        state.normed(axis, "layer")
    seen = (*axes[:first], *[()] * len(shape))
    return axes, seen, seen


def _batch_norm(state: State, node: Node) -> tuple[Axes, ...]:
    """The gain and the bias after a convolution make its channels' sizes; the convolution only goes along."""
    source, gain, bias, mean, variance = arguments(node)[:5]
    axes = state.axes(source)
    _along(state, gain, axes[1], Role.WRITES)
    _along(state, bias, axes[1], Role.WRITES)
    _along(state, mean, axes[1], Role.FOLLOWS)
    _along(state, variance, axes[1], Role.FOLLOWS)
    state.normed(axes[1], "batch")
    if getattr(source, "op", "") == "call_function" and _name(source) == "convolution":
        for stored in source.args[1:3]:
            if stored is not None:
                state.give_role(stored, 0, Role.FOLLOWS)
    return axes, (), ()


def _group_norm(state: State, node: Node) -> tuple[Axes, ...]:
    source, gain, bias, _, channels, _, groups, _ = arguments(node)
    axes = state.axes(source)
    blocks = (*state.indices.axis(int(groups)), *state.indices.axis(int(channels) // int(groups)))
    state.indices.unite(axes[1], blocks)
    _along(state, gain, axes[1], Role.FOLLOWS)
    _along(state, bias, axes[1], Role.WRITES)
    state.normed(axes[1], "layer")
    seen = state.fresh((*shape_of(source)[:1], int(groups)), held=True)
    return axes, seen, seen


def _kept(state: State, node: Node) -> Axes:
    return state.axes(arguments(node)[0])


def _in_order(state: State, node: Node) -> Axes:
    """What depends on the order of one axis, or of all of them."""
    axes = state.axes(arguments(node)[0])
    for dim in _dims(node, len(axes)):
        state.indices.hold(axes[dim])
    return axes


def _dims(node: Node, rank: int) -> Sequence[int]:
    given: Any = arguments(node)[1] if len(arguments(node)) > 1 else node.kwargs.get("dim")
    if given is None or given == []:
        return range(rank)
    return [int(dim) % rank for dim in (given if isinstance(given, list | tuple) else [given])] if rank else []


def _reduced(state: State, node: Node) -> Axes:
    """Sums, means and extremes do not see the order of what they are taken over."""
    axes = state.axes(arguments(node)[0])
    dims = set(_dims(node, len(axes)))
    if _name(node) in {"mean", "var"} and len(shape_of(node)) == len(axes):  # kept as an axis of one: to divide by
        for dim in dims:
            state.normed(axes[dim], "rms")
    kept = [() if i in dims else axis for i, axis in enumerate(axes)]
    return tuple(kept) if len(shape_of(node)) == len(axes) else tuple(a for i, a in enumerate(kept) if i not in dims)


def _chosen(state: State, node: Node) -> Axes:
    axes = _in_order(state, node)
    return state.fresh(shape_of(node), held=True) if axes or shape_of(node) else ()


def _pooled(state: State, node: Node) -> Axes | tuple[Axes, ...]:
    axes = state.axes(arguments(node)[0])
    value = node.meta["val"]
    shape = tuple(value[0].shape) if isinstance(value, list | tuple) else tuple(value.shape)
    changed = [i for i in range(len(axes)) if i >= len(axes) - 2]
    for i in changed:
        state.indices.hold(axes[i])
    new = (*axes[: len(axes) - 2], *state.fresh(shape[-2:], held=True))
    return (new, new) if isinstance(value, list | tuple) else new


def _padded(state: State, node: Node) -> Axes:
    axes, shape = state.axes(arguments(node)[0]), shape_of(node)
    result = []
    for axis, old, new in zip(axes, shape_of(arguments(node)[0]), shape, strict=True):
        if old != new:
            state.indices.hold(axis)
        result.append(axis if old == new else state.fresh((new,), held=True)[0])
    return tuple(result)


def unknown(state: State, node: Node) -> Axes | tuple[Axes, ...]:
    """An operation without a rule: nothing that it touches may change."""
    state.unknown[str(node.target)] += 1
    for source in node.all_input_nodes:
        found: Any = state.values.get(source, ())
        for axes in found if isinstance(source.meta.get("val"), list | tuple) else (found,):
            state.hold(axes)
    value = node.meta.get("val")
    if isinstance(value, list | tuple):
        return tuple(state.fresh(tuple(each.shape), held=True) for each in value)
    return state.fresh(tuple(value.shape), held=True) if value is not None else ()


COMPUTING: Mapping[str, Rule] = {
    **dict.fromkeys(("mm", "bmm"), _mm),
    "addmm": _addmm,
    "convolution": _convolution,
    "native_layer_norm": _layer_norm,
    "_native_batch_norm_legit_no_training": _batch_norm,
    "native_group_norm": _group_norm,
    **dict.fromkeys(("_softmax", "_log_softmax"), _kept),
    **dict.fromkeys(("cumsum", "flip"), _in_order),
    **dict.fromkeys(("mean", "sum", "var", "amax", "amin", "any", "prod"), _reduced),
    **dict.fromkeys(("argmax", "argmin"), _chosen),
    **dict.fromkeys(
        ("avg_pool2d", "max_pool2d_with_indices", "_adaptive_avg_pool2d", "upsample_bilinear2d", "upsample_nearest2d"),
        _pooled,
    ),
    "constant_pad_nd": _padded,
}
