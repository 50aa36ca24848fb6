"""`Head`: the classification head of one model, to be read from another model's trunk."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from cards.errors import EvaluationError
from cards.models import Candidate, LoadedModel, find_candidates, load_model
from cards.suite import Suite, Task, TaskKind
from cards.trunk import head_modules, plain_model

__all__ = ["Head", "find_heads", "fitted", "load_heads"]


@dataclass(frozen=True)
class Head:
    """What a model has behind its trunk.

    name: the model's short name.  config: the model's, with the names of the outputs.  of: its class.  modules: by
    their names in it, in evaluation mode.
    """

    name: str
    config: Any
    of: type
    modules: Mapping[str, Any]


def find_heads(suite: Suite) -> dict[str, Candidate]:
    """The models whose heads the tasks of the suite name, by that name; each is looked up, none is loaded."""
    named = tuple(dict.fromkeys(task.head for task in suite.tasks if task.head is not None))
    return dict(zip(named, find_candidates([suite.model_at(name) for name in named]), strict=True)) if named else {}


def load_heads(found: Mapping[str, Candidate], tasks: Iterable[Task], device: str) -> dict[str, Head]:
    """The heads of `find_heads`; their models' trunks are loaded too, one at a time, and dropped.

    Raises `EvaluationError` when one of the models cannot be loaded, or its class has no head of its own.
    """
    kinds = {task.head: task.task for task in tasks if task.head is not None}
    return {name: _load(candidate, kinds[name], device) for name, candidate in found.items()}


def _load(candidate: Candidate, kind: TaskKind, device: str) -> Head:
    model = load_model(candidate, kind, device).model
    try:
        if candidate.adapter is not None:
            model = model.merge_and_unload()  # what an adapter brings of the head is then in its place
        modules = head_modules(model)
    except (ValueError, AttributeError) as error:
        hint = "name a model of transformers whose head is apart from its trunk"
        raise EvaluationError(f"no head can be taken ({error})", where=candidate.named, hint=hint) from error
    return Head(candidate.name, model.config, type(model), modules)


def fitted(head: Head, loaded: LoadedModel, where: str) -> Mapping[str, Any]:
    """The head's modules in the dtype of the model that they shall read; refused for a model of another class."""
    try:
        model = plain_model(loaded.model)
    except ValueError as error:
        raise EvaluationError(f"no other head can be put on it ({error})", where=where, hint=_LEAVE_OUT) from error
    if type(model) is not head.of:
        what = f"the head of {head.name} belongs to a {head.of.__name__}, and this is a {type(model).__name__}"
        raise EvaluationError(what, where=where, hint=_LEAVE_OUT)
    moved = {name: deepcopy(module).to(loaded.device, loaded.model.dtype) for name, module in head.modules.items()}
    _check_shapes(moved, head_modules(model), head.name, where)
    return moved


_LEAVE_OUT = "leave this model out, or the task's head"


def _check_shapes(modules: Mapping[str, Any], own: Mapping[str, Any], name: str, where: str) -> None:
    """A head reads what the trunk gives: axes that are not its outputs have the sizes of the model's own head."""
    for part, module in modules.items():
        theirs = dict(own[part].named_parameters()) if part in own else {}
        for place, tensor in module.named_parameters():
            mine = theirs.get(place)
            if mine is not None and tuple(mine.shape[1:]) != tuple(tensor.shape[1:]):
                what = f"the head of {name} reads {tensor.shape[1]} numbers, and the model has {mine.shape[1]}"
                raise EvaluationError(what, where=where, hint=_LEAVE_OUT)
