"""The records of a method and of a stage before it: what the engine must know of a rule to run it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from hubmerge.measures import Measure
from hubmerge.method_parameters import Parameters, Values, weight_shares

if TYPE_CHECKING:
    from hubmerge.wrapper import Wrapper

__all__ = ["MergeMethod", "Stage"]


def _nothing(measure: Measure, values: Values) -> tuple[tuple[Any, ...], ...]:  # noqa: ARG001 - what every stage is given
    return ((),) * measure.parents


@dataclass(frozen=True)
class Stage:
    """A step between delta and rule: which entries of a delta survive, and how they are scaled.

    rule: for ``per="entry"`` ``(delta, index, state) -> delta``, for ``per="row"`` ``(row, index, state) -> None``, which
    changes `row`, a float32 array of deltas along the last dimension, in place; both are compiled.  `index` is the (first)
    entry's position in its tensor (a uint32 for an entry: the position modulo 2^32), `state` one parent's part of what
    `measure` returns, a tuple of numpy numbers of the same types for every parent.  passes: how often `measure` reads the tensor.

    pool: which tensors are measured together.  Where it is not "tensor", ``pooled(measure, values)``, plain JSON values,
    is found once for all of them before the first is merged, and given to `measure` as ``measure.pooled``.
    check: raises RecipeError for values that do not go together.  memory: the bytes that one parent's state may take, for a
    tensor of so many entries.

    choice: ``(index, state) -> bool`` where the rule is ``delta * state[-1] if choice(index, state) else 0``: what one pass found
    so costly to choose is remembered for the next (`hubmerge.marks`).
    """

    name: str
    parameters: type[Parameters]
    rule: Callable[..., Any]
    measure: Callable[[Measure, Values], Sequence[tuple[Any, ...]]] = _nothing
    passes: int | Callable[[Values], int] = 0
    per: Literal["entry", "row"] = "entry"
    pool: Callable[[Values], Literal["tensor", "layer", "model"]] = lambda _: "tensor"
    pooled: Callable[[Measure, Values], Any] | None = None
    check: Callable[[Values], None] | None = None
    memory: Callable[[int], int] = lambda _: 0
    choice: Callable[..., Any] | None = None
    paper: str = ""
    revision: int = 1

    @property
    def summary(self) -> str:
        """The first line of the rule's docstring."""
        return (inspect.getdoc(self.rule) or "").partition("\n")[0]


@dataclass(frozen=True)
class MergeMethod:
    """One method, complete: everything the recipe, the planner, the engine and the documentation need.

    operand: "weight" hands the rule the parents' entries, "delta" their differences from the base model's.
    base: "required"; "optional": with one the operands are deltas, without one weights (operand says "weight");
    "start": the base is one of the parents and comes first; "none": without meaning to the method.
    parents: fewest and most parents (the base not counted unless it is one).  shares: coefficients for running
    statistics.  check: raises RecipeError for values that do not go together in one tensor.  caution: what the plan warns of
    for values that are likely a mistake; empty if nothing.

    before: a stage that the deltas go through first; its parameters become the method's.  measure: ``(Measure, values) ->
    the rule's arguments`` that are not parameters, by name; what it is told is told of the deltas after `before`.  One of
    them may be a `PerGroup`: a tuple of numbers for every row or column; it is then the rule's first argument.  groups:
    what it asks about each of, "row" or "column", if anything. named: ``(values, name, shape) -> values``, what the values mean for
    the tensor of that name: settled when it is planned. elsewhere: of a matrix method, the entrywise one that merges a tensor with
    these values; None where the tensor is taken whole. passes: how often `measure` reads the tensor. about:
    what there is to say beside the docstrings of stage and rule. revision: raised whenever the method's numbers change.
    wrapper: what finds coefficients for the parents before, which multiply their `weight` (`hubmerge.wrapper`); inside: the name of
    the method that merges then.

    pooled: of a method without a stage, ``(measure, values) -> plain JSON values``, what is found before the first tensor is merged:
    for all tensors of the model together, or for each, as `pool` says; `measure` is given it as ``measure.pooled``, and passes counts
    what it reads, too.  alike: fields that all tensors of a pool must have the same values of.
    """

    name: str
    kind: Literal["entrywise", "matrix"]
    rule: Callable[..., Any]
    parameters: type[Parameters]
    operand: Literal["weight", "delta"]
    base: Literal["required", "optional", "start", "none"]
    parents: tuple[int, int | None] = (1, None)
    before: Stage | None = None
    measure: Callable[[Measure, Values], Mapping[str, Any]] | None = None
    groups: Callable[[Values], Literal["row", "column"] | None] = lambda _: None
    passes: int | Callable[[Values], int] = 1
    shares: Callable[[Values, int], tuple[float, ...]] = weight_shares
    pool: Callable[[Values], Literal["tensor", "model"]] = lambda _: "tensor"
    pooled: Callable[[Measure, Values], Any] | None = None
    alike: Callable[[Values], tuple[str, ...]] = lambda _: ()
    check: Callable[[Values], None] | None = None
    caution: Callable[[Values], str] = lambda _: ""
    named: Callable[[Values, str, tuple[int, ...]], Values] = lambda values, _name, _shape: values
    elsewhere: Callable[[Values], MergeMethod | None] = lambda _: None
    paper: str = ""
    about: str = ""
    revision: int = 1
    wrapper: Wrapper | None = None
    inside: str = ""

    @property
    def finds_coefficients(self) -> bool:
        """Whether it finds out, before it merges, with which coefficients: then there is more to tell than the tensors."""
        return self.wrapper is not None or self.pooled is not None

    @property
    def inner(self) -> str:
        """The name of the method that merges: its own, or that of the one inside a wrapper."""
        return self.inside or self.name

    @property
    def scope(self) -> Literal["entry", "tensor"]:
        """How a tensor may be cut: "entry" anywhere, "tensor" not before the whole of it was seen."""
        return "entry" if self.kind == "entrywise" and self.before is None and self.measure is None else "tensor"

    @property
    def summary(self) -> str:
        """One line that says what the method does."""
        return self.explanation.splitlines()[0]

    @property
    def explanation(self) -> str:
        """All that the method says of itself: `about`, then the stage's docstring, then the rule's."""
        texts = [self.about, (inspect.getdoc(self.before.rule) or "") if self.before else "", inspect.getdoc(self.rule)]
        return "\n\n".join(text for text in texts if text)

    @property
    def arguments(self) -> tuple[str, ...]:
        """Names of the rule's arguments after its operands, in order."""
        skip = 1 if self.kind == "entrywise" else 2
        return tuple(inspect.signature(self.rule).parameters)[skip:]

    def of_tensor(self, values: Values) -> MergeMethod:
        """The method that merges a tensor with these values: this one, or the one it has for tensors that it does not take whole."""
        return self.elsewhere(values) or self

    def reads(self, values: Values) -> int:
        """How often each entry is read to merge a tensor: once, and as often as stage and rule measure it."""
        measured = 0 if self.measure is None else _count(self.passes, values)
        return 1 + measured + (0 if self.before is None else _count(self.before.passes, values))


def _count(passes: int | Callable[[Values], int], values: Values) -> int:
    return passes if isinstance(passes, int) else passes(values)
