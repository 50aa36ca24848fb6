"""A model in memory -> which axes of its tensors share an index, found by following every index through its exported graph."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hubmerge.symmetry.draft_computing import COMPUTING, entrywise, unknown
from hubmerge.symmetry.draft_indices import Axis, Indices
from hubmerge.symmetry.draft_shaping import SHAPING
from hubmerge.symmetry.draft_state import State
from hubmerge.symmetry.errors import SymmetryError
from hubmerge.symmetry.groups import Role
from hubmerge.symmetry.verify import answers_among

if TYPE_CHECKING:
    from torch import Tensor
    from torch.fx import Node

__all__ = ["Segments", "Traced", "trace"]

Segments = tuple[tuple[int, ...], ...]
"""An axis: the concatenation of its segments, each the product of indices, outer first; () where the axis has one entry."""


@dataclass(frozen=True)
class Traced:
    """What the graph tells of a model.

    axes: of every tensor of its `state_dict` that the graph uses.  sizes: of every index.  held: indices that stay as they are.
    roles: of (tensor, axis).  seconds: (tensor, axis, index) that are read by what they are multiplied with, as keys are by queries.
    norms: index -> rms, layer or batch.  tied: (tensor, the one that it is).
    unknown: operation -> how often; what it touches is held.
    """

    axes: Mapping[str, tuple[Segments, ...]]
    sizes: Mapping[int, int]
    held: frozenset[int]
    roles: Mapping[tuple[str, int], Role]
    seconds: frozenset[tuple[str, int, int]]
    norms: Mapping[int, str]
    tied: tuple[tuple[str, str], ...]
    unknown: Mapping[str, int]

    def role(self, name: str, axis: int, segment: int, factor: int) -> Role:
        """How one factor of an axis takes part.  Of a fused tensor's two segments of one index the last is the second."""
        role = self.roles.get((name, axis), Role.WRITES)
        index = self.axes[name][axis][segment][factor]
        last = max(i for i, each in enumerate(self.axes[name][axis]) if index in each)
        is_second = role is Role.WRITES and segment == last and (name, axis, index) in self.seconds
        return Role.READS if is_second else role


_PRODUCTS = ("aten.mm.", "aten.addmm.", "aten.bmm.", "aten.convolution.")


def trace(model: Any, inputs: Mapping[str, Tensor], where: str = "") -> Traced:
    """Follow every index through `model`, a transformers model in evaluation mode, for `inputs`.

    Raises `SymmetryError` for a model that torch.export does not take.
    """
    program = _exported(model, inputs, where)
    stored = model.state_dict()
    tied = _tied(model, stored)
    state = State()
    for name, values in stored.items():
        known = dict(tied).get(name)
        state.stored[name] = state.stored[known] if known else state.fresh(tuple(values.shape))
    signature = program.graph_signature
    names = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    for node in program.graph.nodes:
        if node.op == "placeholder":
            _begin(state, node, names.get(node.name, "").removeprefix("model."))
        elif node.op == "call_function":
            _follow(state, node)
        elif node.op == "output":
            for answer in node.all_input_nodes:
                state.hold(state.axes(answer))
    return _read(state, tied)


def _exported(model: Any, inputs: Mapping[str, Tensor], where: str) -> Any:
    import warnings

    import torch

    class Answers(torch.nn.Module):
        """The model's answers alone: what else it gives nobody sees."""

        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, **given: Tensor) -> dict[str, Tensor]:
            return answers_among(self.model(**given))

    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.export.export(Answers().eval(), (), dict(inputs), strict=False)
            return program.run_decompositions()
    except SymmetryError:
        raise
    except Exception as error:  # whatever a model's forward and the exporter may raise
        told = " ".join(str(error).split())
        raise SymmetryError(
            f"torch.export does not take {type(model).__name__} ({type(error).__name__}: {told[:200]})",
            where=where,
            hint="write its table by hand, as zoo_index/families/family.py tells",
        ) from error


def _tied(model: Any, stored: Mapping[str, Tensor]) -> tuple[tuple[str, str], ...]:
    """Names of one tensor, each with the one that is saved."""
    keys = getattr(model, "all_tied_weights_keys", None) or {}
    first: dict[tuple[int, tuple[int, ...]], str] = {}
    for name, values in sorted(stored.items(), key=lambda item: item[0] in keys):
        if values.numel() > 1:
            first.setdefault((values.data_ptr(), tuple(values.shape)), name)
    pairs = ((name, first.get((values.data_ptr(), tuple(values.shape)), name)) for name, values in stored.items())
    return tuple((name, other) for name, other in pairs if name != other)


def _begin(state: State, node: Node, name: str) -> None:
    """A stored tensor; else an input, or a constant, which stays as it is."""
    value: Any = node.meta.get("val")
    shape = tuple(value.shape) if hasattr(value, "shape") else ()
    if name in state.stored:
        state.values[node] = state.stored[name]
        state.origin[node] = tuple((name, i) for i in range(len(shape)))
    else:
        state.values[node] = state.fresh(shape, held=True)


def _follow(state: State, node: Node) -> None:
    import operator

    import torch

    if node.target is operator.getitem:
        parts: Any = state.values[node.args[0]]  # type: ignore[index]
        state.values[node] = parts[node.args[1]]
        return
    if not hasattr(node.meta.get("val"), "shape") and not isinstance(node.meta.get("val"), list | tuple):
        return  # an assertion, or a number
    name = str(node.target).split(".")[1] if str(node.target).startswith("aten.") else ""
    rule = SHAPING.get(name) or COMPUTING.get(name)
    if rule is None:
        tags = getattr(node.target, "tags", ())
        rule = entrywise if torch.Tag.pointwise in tags else unknown
    state.values[node] = rule(state, node)


def _read(state: State, tied: tuple[tuple[str, str], ...]) -> Traced:
    indices = state.indices
    used = {place[0] for places in state.origin.values() for place in places if place is not None}
    used |= {name for name, other in tied if other in used}
    shown = {name: axes for name, axes in state.stored.items() if name in used}
    for axes in shown.values():
        for axis in axes:
            _hold_mixed(indices, axis)
    segments = {name: tuple(_segments(indices, axis) for axis in axes) for name, axes in shown.items()}
    known = {index for axes in segments.values() for axis in axes for segment in axis for index in segment}
    norms: dict[int, str] = {}
    for index, kind in state.norms.items():
        norms.setdefault(indices.find(index), kind)
        for leaf in indices.leaves((index,)):
            norms.setdefault(leaf, kind)
    return Traced(
        segments,
        {index: indices.size(index) for index in known},
        frozenset(index for index in known if indices.is_held(index)),
        state.roles,
        frozenset(_seconds(state, segments)),
        norms,
        tied,
        dict(state.unknown),
    )


def _hold_mixed(indices: Indices, axis: Axis) -> None:
    """A product with a concatenation inside is nothing that a table can say: the concatenation stays as it is."""
    factors = indices.factors(axis)
    for factor in factors if len(factors) > 1 else indices.pieces(factors[0]) if factors else ():
        for inner in indices.factors((factor,)):
            if indices.pieces(inner) != (inner,) and (len(factors) > 1 or inner != factor):
                indices.hold((inner,))


def _segments(indices: Indices, axis: Axis) -> Segments:
    factors = indices.factors(axis)
    if factors and all(indices.is_held(index) for index in indices.leaves(axis)):  # as one, whatever it is made of
        whole = indices.whole(factors)
        indices.hold((whole,))
        return ((whole,),)
    if len(factors) == 1:
        return tuple(indices.factors((piece,)) for piece in indices.pieces(factors[0]))
    return (factors,) if factors else ()


def _seconds(state: State, segments: Mapping[str, tuple[Segments, ...]]) -> Iterator[tuple[str, int, int]]:
    """Of two values that meet, what makes the second, where no stored tensor reads the index."""
    read = {
        index
        for (name, axis), role in state.roles.items()
        if role is Role.READS and name in segments
        for segment in segments[name][axis]
        for index in segment
    }
    for axis, second in state.meetings:
        for index in set(state.indices.leaves(axis)) - read:
            for name in () if state.indices.is_held(index) else _makers(state, second):
                for place, its in enumerate(segments.get(name, ())):
                    if any(index in segment for segment in its):
                        yield name, place, index


def _makers(state: State, node: Node) -> Iterator[str]:
    """The stored tensors that a value is made of, back to the products that made it."""
    waiting, seen = [node], {node}
    while waiting:
        current = waiting.pop()
        places = [place for place in state.origin.get(current, ()) if place is not None]
        if places:
            yield places[0][0]
            continue
        product = str(current.target).startswith(_PRODUCTS)
        for source in current.all_input_nodes:
            if source not in seen and (not product or source in state.origin):
                seen.add(source)
                waiting.append(source)
