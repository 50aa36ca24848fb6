"""What a merge method is: the `MergeMethod` record, its parameters, and the registry.

A method is a rule plus what the engine must know to run it.  There are two kinds of rule:

*entrywise*: plain Python over the float32 numbers of one entry, one per parent; compiled and streamed by the engine.
    What it needs to know of a whole tensor is declared: a `Stage` before it, a `Reduction` of the tensor, or both.
*matrix*: a function of whole float32 torch tensors.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict

from hubmerge.errors import RecipeError

__all__ = [
    "MergeMethod",
    "Parameters",
    "PerParent",
    "Reduction",
    "Stage",
    "entrywise",
    "get_method",
    "matrix",
    "merge_method",
    "method_names",
    "parameter_values",
    "weight_shares",
]

T = TypeVar("T")


class _PerParentMark:
    """Marks a parameter that every parent has its own value of."""


PerParent = Annotated[T, _PerParentMark]


class Parameters(BaseModel):
    """A method's parameters, one tensor's worth: a `PerParent` field holds one parent's value.

    Names are mergekit's; a field that would be a Python keyword carries its mergekit name as alias (``lambda``).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, allow_inf_nan=False)

    @classmethod
    def per_parent(cls) -> frozenset[str]:
        """The fields of which every parent has its own value."""
        return frozenset(name for name, field in cls.model_fields.items() if _PerParentMark in field.metadata)

    @classmethod
    def alias(cls, field: str) -> str:
        """The name of `field` in a recipe."""
        return cls.model_fields[field].alias or field


@dataclass(frozen=True)
class Stage:
    """A step between delta and rule: which entries of a delta survive.

    rule: ``(delta, index, state) -> delta``, compiled; `index` is the entry's position in its tensor, `state` a tuple
    of float32 that `measure` ("magnitude": the exact k-th largest magnitude) finds per parent in a pass over the
    tensor.  parameter: the per-parent parameter that `measure` needs.
    """

    name: str
    parameter: str
    measure: Literal["magnitude"]
    rule: Callable[..., Any]


@dataclass(frozen=True)
class Reduction:
    """What a rule needs to know of the whole tensor.

    kind: "gram" is the float64 matrix of inner products of the parents' operands.  arguments: ``(measured,
    parameters) -> the rule's arguments`` that are not parameters, by name.
    """

    kind: Literal["gram"]
    arguments: Callable[[Any, Mapping[str, Any]], Mapping[str, Any]]


def weight_shares(parameters: Mapping[str, Any], parents: int) -> tuple[float, ...]:
    """Coefficients that sum to 1, for averaging running statistics: `weight` normalised; equal when that is no average."""
    weights = parameters.get("weight", (1.0,) * parents)
    total = sum(weights)
    if total <= 0 or min(weights) < 0:
        return (1.0 / parents,) * parents
    return tuple(weight / total for weight in weights)


@dataclass(frozen=True)
class MergeMethod:
    """One method, complete: everything the recipe, the planner, the engine and the documentation need.

    operand: "weight" hands the rule the parents' entries, "delta" their differences from the base model's.
    base: "required"; "start": the base is one of the parents and comes first; "none": without meaning to the method.
    parents: fewest and most parents (the base not counted unless it is one).  shares: coefficients for running
    statistics.  check: raises RecipeError for values that do not go together in one tensor.
    revision: raised whenever the method's numbers change.
    """

    name: str
    kind: Literal["entrywise", "matrix"]
    rule: Callable[..., Any]
    parameters: type[Parameters]
    operand: Literal["weight", "delta"]
    base: Literal["required", "start", "none"]
    parents: tuple[int, int | None] = (1, None)
    before: Stage | None = None
    reduce: Reduction | None = None
    shares: Callable[[Mapping[str, Any], int], tuple[float, ...]] = weight_shares
    check: Callable[[Mapping[str, Any]], None] | None = None
    paper: str = ""
    revision: int = 1

    @property
    def scope(self) -> Literal["entry", "tensor"]:
        """How a tensor may be cut: "entry" anywhere, "tensor" not before the whole of it was seen."""
        return "entry" if self.kind == "entrywise" and self.before is None and self.reduce is None else "tensor"

    @property
    def summary(self) -> str:
        """The first line of the rule's docstring."""
        return inspect.getdoc(self.rule).splitlines()[0]  # type: ignore[union-attr]  # checked at registration

    @property
    def arguments(self) -> tuple[str, ...]:
        """Names of the rule's arguments after its operands, in order."""
        skip = 1 if self.kind == "entrywise" else 2
        return tuple(inspect.signature(self.rule).parameters)[skip:]


_REGISTRY: dict[str, MergeMethod] = {}
_ELSEWHERE = frozenset(
    {"arcee_fusion", "breadcrumbs", "breadcrumbs_ties", "dare_linear", "dare_ties", "della", "della_linear", "karcher",
     "model_stock", "multislerp", "nearswap", "nuslerp", "ram", "ramplus_tl", "sce"}
)  # fmt: skip
"""Methods of mergekit that are not registered here: recipes with them are correct, and a near name would mislead."""

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

    def register(rule: Rule) -> Rule:
        kind = rule.__dict__.get("kind")
        if kind is None or not inspect.getdoc(rule):
            raise TypeError(f"method {name!r} needs @entrywise or @matrix, and a docstring")
        record.setdefault("base", "required" if record["operand"] == "delta" else "none")
        method = MergeMethod(name=name, kind=kind, rule=rule, **record)
        known = set(method.parameters.model_fields) | ({"measured"} if method.reduce else set())
        if name in _REGISTRY or (method.reduce is None and not set(method.arguments) <= known):
            raise TypeError(f"method {name!r} is registered twice, or takes arguments it has no parameters for")
        _REGISTRY[name] = method
        return rule

    return register


@cache
def _load_methods() -> None:
    import hubmerge.methods  # noqa: F401 - importing registers


def method_names() -> tuple[str, ...]:
    """Names of all methods, in the order of registration."""
    _load_methods()
    return tuple(_REGISTRY)


def get_method(name: str) -> MergeMethod:
    """The method called `name`; RecipeError with the nearest names when there is none."""
    _load_methods()
    if name not in _REGISTRY:
        spelled = name.replace("-", "_")
        if spelled in _ELSEWHERE:
            message, hint = f"method {name} is not done by this version", "`hubmerge methods` lists those that are"
        else:
            close = get_close_matches(spelled, _REGISTRY, n=3, cutoff=0.5)
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
