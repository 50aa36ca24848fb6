"""What a merge method is: the `MergeMethod` record, its parameters, and the registry.

A method is a rule plus what the engine must know to run it.  There are two kinds of rule:

*entrywise*: plain Python over the float32 numbers of one entry, one per parent; compiled and streamed by the engine.
    A `Stage` before it may thin the deltas.  What stage and rule must know of the whole tensor they ask of a `Measure`.
*matrix*: a function of whole float32 torch tensors.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import cache
from typing import Any, Literal, TypeVar

from pydantic import create_model

from hubmerge.errors import RecipeError
from hubmerge.measures import Measure, PerGroup
from hubmerge.method_parameters import Parameters, PerParent, Values, weight_shares

__all__ = [
    "Measure",
    "MergeMethod",
    "Parameters",
    "PerGroup",
    "PerParent",
    "Stage",
    "combine_names",
    "compose",
    "entrywise",
    "get_combine",
    "get_method",
    "matrix",
    "merge_method",
    "method_names",
    "parameter_values",
    "recorded",
    "register",
    "register_combine",
    "weight_shares",
]


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
    what it asks about each of, "row" or "column", if anything. passes: how often `measure` reads the tensor. about:
    what there is to say beside the docstrings of stage and rule. revision: raised whenever the method's numbers change.
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
    check: Callable[[Values], None] | None = None
    caution: Callable[[Values], str] = lambda _: ""
    paper: str = ""
    about: str = ""
    revision: int = 1

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

    def reads(self, values: Values) -> int:
        """How often each entry is read to merge a tensor: once, and as often as stage and rule measure it."""
        measured = 0 if self.measure is None else _count(self.passes, values)
        return 1 + measured + (0 if self.before is None else _count(self.before.passes, values))


def _count(passes: int | Callable[[Values], int], values: Values) -> int:
    return passes if isinstance(passes, int) else passes(values)


def compose(combine: MergeMethod, stage: Stage, *, name: str = "", about: str = "", **defaults: Any) -> MergeMethod:
    """The method that puts every delta through `stage` and then combines them by `combine`.

    name: the new method's, default ``combine+stage``.  about: its own explanation, before those of stage and rule.
    defaults: other defaults for parameters of either.  Raises RecipeError when `combine` does not work on deltas, or has a
    stage already.
    """
    if combine.operand != "delta" or combine.kind != "entrywise" or combine.before is not None:
        has = f"has one already ({combine.before.name})" if combine.before else "does not merge deltas entry by entry"
        raise RecipeError(
            f"{combine.name} takes no stage: it {has}",
            where="sparsify",
            hint="remove it, or write combine: weighted_sum or sign_consensus instead of merge_method",
        )
    both: Any = (stage.parameters, combine.parameters)  # pydantic lists the last one's fields first
    changed: dict[str, Any] = {}
    for field, default in defaults.items():
        info = copy((combine.parameters.model_fields | stage.parameters.model_fields)[field])
        info.default = default
        changed[field] = (info.annotation, info)
    own = name or f"{combine.name}+{stage.name}"
    return replace(
        combine,
        name=own,
        parameters=create_model(f"{own}Parameters", __base__=both, **changed),
        before=stage,
        about=about,
        check=_both_checks(combine.check, stage.check),
        paper="; ".join(dict.fromkeys(filter(None, (stage.paper, combine.paper)))),
        revision=max(combine.revision, stage.revision),
    )


def _both_checks(*checks: Callable[[Values], None] | None) -> Callable[[Values], None]:
    def check(values: Values) -> None:
        for one in checks:
            if one is not None:
                one(values)

    return check


_REGISTRY: dict[str, MergeMethod] = {}
_COMBINE: dict[str, MergeMethod] = {}
Rule = TypeVar("Rule", bound=Callable[..., Any])


def entrywise(rule: Rule) -> Rule:
    """Mark `rule` as the rule for one entry: ``(entries, *arguments) -> float32``, `entries` one float32 per parent."""
    rule.__dict__["kind"] = "entrywise"
    return rule


def matrix(rule: Rule) -> Rule:
    """Mark `rule` as a function of whole tensors: ``(operands, base, *arguments) -> tensor``, float32 torch tensors."""
    rule.__dict__["kind"] = "matrix"
    return rule


def merge_method(name: str, **record: Any) -> Callable[[Rule], Rule]:
    """Register the rule below as method `name`; the keywords are `MergeMethod`'s fields.

    Raises TypeError at import when the record is incomplete: no kind, no docstring, an argument nobody provides.
    """

    def registered(rule: Rule) -> Rule:
        register(recorded(name, rule, **record))
        return rule

    return registered


def register(method: MergeMethod) -> None:
    """Make a method known under its name; TypeError when the name is taken."""
    if method.name in _REGISTRY:
        raise TypeError(f"method {method.name!r} is registered twice")
    _REGISTRY[method.name] = method


def register_combine(method: MergeMethod) -> None:
    """Make a rule known under ``combine`` in a recipe: the half of a preset that comes after its stage."""
    _COMBINE[method.name] = method


def recorded(name: str, rule: Callable[..., Any], **record: Any) -> MergeMethod:
    """The record of a rule, complete and not registered; raises TypeError as `merge_method` does."""
    kind = rule.__dict__.get("kind")
    if kind is None or not inspect.getdoc(rule):
        raise TypeError(f"method {name!r} needs @entrywise or @matrix, and a docstring")
    base = "required" if record["operand"] == "delta" else "none"
    method = MergeMethod(name=name, kind=kind, rule=rule, **{"base": base, **record})
    if method.measure is None and not set(method.arguments) <= set(method.parameters.model_fields):
        raise TypeError(f"method {name!r} takes arguments it has no parameters for")
    return method


@cache
def _load_methods() -> None:
    import hubmerge.methods  # noqa: F401 - importing registers


def method_names() -> tuple[str, ...]:
    """Names of all methods, in the order of registration."""
    _load_methods()
    return tuple(_REGISTRY)


def combine_names() -> tuple[str, ...]:
    """Names of the rules that a recipe may ask for under ``combine``: the rules of presets, then methods on deltas."""
    _load_methods()
    own = [name for name, method in _REGISTRY.items() if method.operand == "delta" and method.before is None]
    return (*_COMBINE, *(name for name in own if _REGISTRY[name].kind == "entrywise"))


def get_combine(name: str) -> MergeMethod:
    """The combine rule called `name`; RecipeError with the nearest names when there is none."""
    names = combine_names()
    if name not in names:
        close = get_close_matches(name.replace("-", "_"), names, n=3, cutoff=0.5)
        hint = "did you mean " + " or ".join(close) + "?" if close else "known: " + ", ".join(names)
        raise RecipeError(f"unknown combine rule {name!r}", where="combine", hint=hint)
    return _COMBINE.get(name) or _REGISTRY[name]


def get_method(name: str) -> MergeMethod:
    """The method called `name`; RecipeError with the nearest names when there is none."""
    _load_methods()
    if name not in _REGISTRY:
        spelled = name.replace("-", "_").lower()
        close = [spelled] if spelled in _REGISTRY else get_close_matches(spelled, _REGISTRY, n=2, cutoff=0.6)
        message = f"unknown merge_method {name!r}"
        hint = "did you mean " + " or ".join(close) + "?" if close else "`hubmerge methods` lists them"
        raise RecipeError(message, where="merge_method", hint=hint)
    return _REGISTRY[name]


def parameter_values(method: MergeMethod, resolved: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Check one tensor's parameters and bring them into the form the rule takes.

    resolved: for every parent, the values a recipe gives it by recipe name (shared ones repeated).  Returns field name
    -> tuple over parents for `PerParent` fields, the value itself for shared ones.  Raises pydantic's ValidationError.
    """
    rows = [method.parameters.model_validate(dict(values)) for values in resolved]
    own = method.parameters.per_parent()
    return {
        name: tuple(getattr(row, name) for row in rows) if name in own else getattr(rows[0], name)
        for name in method.parameters.model_fields
    }
