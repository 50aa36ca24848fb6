"""Wrappers: methods that first find a coefficient for every parent and tensor, and then merge by another method with these as its weights.

What a wrapper does before is its `prepare` step.  It may read the parents' tensors, be handed statistics of them, or run the
models on calibration data; its result is numbers, so that the merge itself is that of the inner method, streamed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol

from pydantic import create_model

from hubmerge.errors import RecipeError, shown
from hubmerge.method_parameters import Parameters, Values, all_checks

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn

    from hubmerge.adamerging.changes import Change
    from hubmerge.io.input_files import InputFiles
    from hubmerge.method_record import MergeMethod
    from hubmerge.plan_types import Plan
    from hubmerge.recipe import Recipe

__all__ = [
    "Changes",
    "DataWork",
    "ParentModels",
    "Prepared",
    "Preparing",
    "Statistics",
    "ToldWork",
    "Wrapper",
    "inner_of",
    "own_values",
    "wrapped",
]

Statistics = Mapping[int, Mapping[str, Any]]
"""By a parent's place among those that are merged, from 0: names of tensors, and words of the method, to what was measured."""


Changes = Callable[[], Mapping[str, Sequence["Change"]]]
"""By the base's tensors what every parent alone adds to them, once it is asked for."""


class ParentModels(Protocol):
    """The parents as models that can be run, each on data of its own; places are those among the parents that are merged, from 0."""

    @property
    def names(self) -> Sequence[str]:
        """What errors call the parents."""

    def model(self, place: int) -> nn.Module:
        """A copy of the parent in float32 and evaluation mode, the caller's own; one is made at every call."""

    def base(self) -> nn.Module:
        """The same of the base model."""

    def batches(self, place: int) -> Sequence[Mapping[str, Tensor]]:
        """The parent's own data, a mapping of the model's arguments for every batch; ``labels`` among them where there are any."""

    def tensor_names(self, model: nn.Module) -> Mapping[str, str]:
        """The names of a model's parameters -> what the merge calls these tensors."""


@dataclass(frozen=True)
class Preparing:
    """What a prepare step is given.

    plan: of the merge by the inner method; values: the wrapper's own parameters.  inputs: where the parents' numbers are, read on `jobs`
    threads.  statistics, models: at most one of them, and only where the wrapper takes it.  note: is told in a sentence what is begun.
    scratch: a folder for temporary files, None for the system's.  changes: what adapters add under the inner
    method; None where the plan's inputs say so.
    """

    plan: Plan
    values: Values
    inputs: InputFiles
    jobs: int
    statistics: Statistics | None = None
    models: ParentModels | None = None
    note: Callable[[str], None] = lambda _: None
    scratch: Path | None = None
    changes: Changes | None = None

    @property
    def parents(self) -> int:
        """How many parents are merged."""
        return len(self.plan.recipe.parents)

    @property
    def tensors(self) -> tuple[str, ...]:
        """The names of all tensors that the method merges, in the order of the plan."""
        return tuple(step.output.name for step in self.plan.steps if step.action == "merge")


@dataclass(frozen=True)
class Prepared:
    """What a prepare step found.

    layers: by the name of a layer, whatever the wrapper takes for one, a coefficient for every parent; layer_of: the layer of every tensor
    that is merged.  state: what else there is to tell, as plain JSON values.
    """

    layers: Mapping[str, tuple[float, ...]]
    layer_of: Mapping[str, str]
    state: Mapping[str, Any] = field(default_factory=dict)

    @property
    def coefficients(self) -> dict[str, tuple[float, ...]]:
        """By tensor what each parent's weight is multiplied with."""
        return {name: self.layers[layer] for name, layer in self.layer_of.items()}


@dataclass(frozen=True)
class DataWork:
    """What a wrapper is told of its data before it is run.

    samples: of each parent.  weights: bytes of the largest parent in float32, largest: of its largest tensor.  logits: bytes of each
    parent's answers to its own data in float32, answer: of the longest of them, at most.  values: the wrapper's own parameters.  thin:
    bytes of the factors of parents that are adapters; None for models.
    """

    values: Values
    samples: tuple[int, ...]
    weights: int
    largest: int
    logits: tuple[int, ...]
    answer: int
    thin: int | None = None


@dataclass(frozen=True)
class ToldWork:
    """lines: what will be run, in words.  memory: bytes at most, beside torch and what runs between layers; scratch: of temporary files."""

    lines: tuple[str, ...]
    memory: int
    scratch: int = 0


@dataclass(frozen=True, eq=False)
class Wrapper:
    """One wrapper, complete.

    inners: the methods it may have inside, the first by default, each with other defaults for its parameters. parameters: its own, with
    a field `inner`; none of them may differ between tensors or parents. takes: what may be handed to it beside the models; needs_data:
    whether it cannot do without one of these. labels: "loss": of every sample, unless the model predicts the next token; "none": it
    takes none. needs, cost: in words, what the data is and what is done with it. work: the same in numbers. check: raises RecipeError
    for values that do not go together. revision: raised whenever its numbers change.
    """

    name: str
    inners: Mapping[str, Mapping[str, Any]]
    parameters: type[Parameters]
    prepare: Callable[[Preparing], Prepared]
    about: str
    paper: str
    takes: tuple[Literal["calibration", "statistics"], ...] = ()
    needs_data: bool = False
    labels: Literal["loss", "none"] = "loss"
    needs: str = ""
    cost: str = ""
    work: Callable[[DataWork], ToldWork] = lambda _: ToldWork((), 0)
    check: Callable[[Values], None] | None = None
    revision: int = 1


def wrapped(wrapper: Wrapper, inner: MergeMethod) -> MergeMethod:
    """The method that merges by `inner` with the coefficients of `wrapper`, under the wrapper's name."""
    changed: dict[str, Any] = {}
    for name, default in wrapper.inners[inner.name].items():
        info = copy(inner.parameters.model_fields[name])
        info.default = default
        changed[name] = (info.annotation, info)
    both: Any = (inner.parameters, wrapper.parameters)  # pydantic lists the last one's fields first
    return replace(
        inner,
        name=wrapper.name,
        parameters=create_model(f"{wrapper.name}Parameters", __base__=both, **changed),
        check=all_checks(inner.check, wrapper.check),
        about="\n\n".join(filter(None, (wrapper.about, inner.about))),
        paper="; ".join(dict.fromkeys(filter(None, (wrapper.paper, inner.paper)))),
        revision=max(wrapper.revision, inner.revision),
        wrapper=wrapper,
        inside=inner.name,
    )


def own_values(recipe: Recipe) -> dict[str, Any]:
    """The values of a wrapper's own parameters, which are the same in every tensor, in a recipe for it."""
    method = recipe.method
    assert method.wrapper is not None
    (section,) = recipe.sections
    given = section.scopes.resolve(method, section.parents(method)[0], "", 0.0)
    fields = method.wrapper.parameters
    own = fields.model_validate({name: given[name] for name in map(fields.alias, fields.model_fields) if name in given})
    return {name: getattr(own, name) for name in fields.model_fields}


def inner_of(wrapper: Wrapper, parameters: Any) -> str:
    """The name of the inner method by a recipe's parameters, of which anything may be wrong; RecipeError for one that does not fit."""
    names = tuple(wrapper.inners)
    asked = parameters.get("inner") if isinstance(parameters, Mapping) else None
    if asked is None:
        return names[0]
    if not isinstance(asked, str) or asked not in names:
        known = f"{', '.join(names[:-1])} or {names[-1]}" if len(names) > 1 else names[0]
        raise RecipeError(
            f"inner must be {known}, got {shown(asked)}",
            where="parameters.inner",
            hint=f"the method by which {wrapper.name} merges what it weighs",
        )
    return asked
