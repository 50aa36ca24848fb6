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
from dataclasses import replace
from difflib import get_close_matches
from functools import cache
from typing import Any, TypeVar

from pydantic import create_model

from hubmerge.errors import RecipeError
from hubmerge.measures import Measure, PerGroup
from hubmerge.method_parameters import Parameters, PerParent, all_checks, weight_shares
from hubmerge.method_record import MergeMethod, Stage
from hubmerge.wrapper import Wrapper, wrapped

__all__ = [
    "Measure",
    "MergeMethod",
    "Parameters",
    "PerGroup",
    "PerParent",
    "Stage",
    "around",
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
    "register_around",
    "register_combine",
    "register_wrapper",
    "weight_shares",
    "with_inner",
]


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
        check=all_checks(combine.check, stage.check),
        paper="; ".join(dict.fromkeys(filter(None, (stage.paper, combine.paper)))),
        revision=max(combine.revision, stage.revision),
    )


_REGISTRY: dict[str, MergeMethod] = {}
_COMBINE: dict[str, MergeMethod] = {}
_AROUND: dict[tuple[str, str], Wrapper] = {}
_WRAPPERS: list[Wrapper] = []
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


def register_wrapper(wrapper: Wrapper) -> None:
    """Make a wrapper known under its name, with the first of its inner methods inside; those may be registered after it."""
    _WRAPPERS.append(wrapper)


def register_around(wrapper: Wrapper, inner: str) -> None:
    """Make a wrapper known that has the name of the one method inside it, which is asked for by ``inner: ...`` of that method."""
    _AROUND[wrapper.name, inner] = wrapper


def around(method: MergeMethod, parameters: Any) -> MergeMethod:
    """`method`, or the wrapper around it that a recipe's parameters ask for, of which anything may be wrong."""
    asked = parameters.get("inner") if isinstance(parameters, Mapping) else None
    wrapper = _AROUND.get((method.name, asked)) if isinstance(asked, str) else None
    return method if wrapper is None else with_inner(wrapper, method.name)


@cache
def with_inner(wrapper: Wrapper, inner: str) -> MergeMethod:
    """The method of `wrapper` with the method called `inner` inside; TypeError for one without weights."""
    if "weight" not in _REGISTRY[inner].parameters.per_parent():
        raise TypeError(f"{wrapper.name} wraps {inner}, whose parents have no weights")
    return wrapped(wrapper, _REGISTRY[inner])


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

    for wrapper in _WRAPPERS:
        register(with_inner(wrapper, next(iter(wrapper.inners))))


def method_names() -> tuple[str, ...]:
    """Names of all methods, in the order of registration."""
    _load_methods()
    return tuple(_REGISTRY)


def combine_names() -> tuple[str, ...]:
    """Names of the rules that a recipe may ask for under ``combine``: the rules of presets, then methods on deltas."""
    _load_methods()
    own = [n for n, m in _REGISTRY.items() if m.operand == "delta" and m.before is None and m.wrapper is None]
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
