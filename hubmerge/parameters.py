"""The parameters of a recipe: which names a method knows, which values they may have, and which apply to a tensor.

A value on a model comes before the same value at the top level, and both before the method's default.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Annotated, Any

from pydantic import TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from hubmerge.errors import RecipeError
from hubmerge.method import MergeMethod, get_method, method_names
from hubmerge.settings import Setting, parse_setting

__all__ = ["ParameterScopes", "parse_parameters"]

_ELSEWHERE = frozenset(
    {"density", "epsilon", "filter_wise", "gamma", "int8_mask", "max_iter", "nuslerp_flatten", "nuslerp_row_wise",
     "select_topk", "tol"}
)  # fmt: skip
"""Parameters of methods that mergekit has and this version has not: found beside other methods, they change nothing."""


@dataclass(frozen=True)
class ParameterScopes:
    """Parsed parameters: of each model, and of all."""

    models: tuple[tuple[Any, Mapping[str, Setting]], ...]
    shared: Mapping[str, Setting]

    @property
    def has_gradient(self) -> bool:
        settings = [*self.shared.values(), *(s for _, own in self.models for s in own.values())]
        return any(setting.has_gradient for setting in settings)

    def resolve(self, method: MergeMethod, parent: Any, tensor_name: str, depth: float) -> dict[str, Any]:
        """The values a recipe gives `parent` for one tensor, by recipe name; names without a value are left out."""
        own = dict(self.models).get(parent, {})
        values: dict[str, Any] = {}
        for field in method.parameters.model_fields:
            name = method.parameters.alias(field)
            for scope in (own, self.shared):
                value = scope[name].resolve(tensor_name, depth) if name in scope else None
                if value is not None:
                    values[name] = value
                    break
        return values


def parse_parameters(
    method: MergeMethod, models: Sequence[tuple[Any, Any]], shared: Any
) -> tuple[ParameterScopes, tuple[RecipeError, ...], tuple[str, ...]]:
    """Read the parameters of a recipe: `models` are (model, its parameters), `shared` those at the top level.

    Returns what was read, every fault, and a warning for every parameter that this method ignores.
    """
    faults: list[RecipeError] = []
    warnings: list[str] = []
    own = [
        (model, _read_scope(method, raw, f"models[{i}].parameters", True, faults, warnings))
        for i, (model, raw) in enumerate(models)
    ]
    top = _read_scope(method, shared, "parameters", False, faults, warnings)
    given = set(top)
    for field, info in method.parameters.model_fields.items():
        name = method.parameters.alias(field)
        on_models = any(name in raw for _, raw in models if isinstance(raw, Mapping))
        if info.is_required() and name not in given and not (field in method.parameters.per_parent() and on_models):
            hint = (
                "move it from the models to the top-level parameters"
                if on_models
                else f"{method.name} needs it: {info.description}"
            )
            faults.append(RecipeError(f"parameter {name} is missing", where="parameters", hint=hint))
    return ParameterScopes(tuple(own), top), tuple(faults), tuple(warnings)


def _read_scope(
    method: MergeMethod, raw: Any, where: str, on_model: bool, faults: list[RecipeError], warnings: list[str]
) -> dict[str, Setting]:
    if not isinstance(raw, Mapping):
        faults.append(RecipeError(f"parameters are a mapping of names to values, got {raw!r}", where=where))
        return {}
    fields = {method.parameters.alias(field): field for field in method.parameters.model_fields}
    settings: dict[str, Setting] = {}
    for name, value in raw.items():
        place = f"{where}.{name}"
        field = fields.get(name)
        if field is None:
            _judge_unknown(method, str(name), place, faults, warnings)
        elif on_model and field not in method.parameters.per_parent():
            if not method.parameters.model_fields[field].is_required():
                warnings.append(
                    f"{place} is ignored: {method.name} has one {name} for all models, under the top-level parameters"
                )
        elif value is not None:
            try:
                settings[name] = parse_setting(value, _LeafCheck(name, method.parameters.model_fields[field]))
            except ValueError as error:
                faults.append(RecipeError(str(error), where=place, hint=_percent_hint(name, value)))
    return settings


class _LeafCheck:
    """Parses one value of a field, with a message in the field's words."""

    def __init__(self, name: str, info: FieldInfo) -> None:
        self.name = name
        self.adapter: TypeAdapter[Any] = TypeAdapter(Annotated[(info.annotation, name, *info.metadata)])  # type: ignore[arg-type]
        self.bounds = _bounds(info.metadata)

    def __call__(self, value: Any) -> Any:
        try:
            parsed = self.adapter.validate_python(value)
        except ValidationError as error:
            expected = self.bounds or error.errors()[0]["msg"].lower().removeprefix("input should be ")
            raise ValueError(f"{self.name} must be {expected}, got {value!r}") from None
        if isinstance(parsed, float) and parsed - parsed != 0:
            raise ValueError(f"{self.name} must be a finite number, got {value!r}")
        return parsed


def _bounds(metadata: Iterable[Any]) -> str:
    low = high = None
    for mark in metadata:
        low = f"({mark.gt}" if hasattr(mark, "gt") else f"[{mark.ge}" if hasattr(mark, "ge") else low
        high = f"{mark.lt})" if hasattr(mark, "lt") else f"{mark.le}]" if hasattr(mark, "le") else high
    return f"in {low or '(-inf'}, {high or 'inf)'}" if low or high else ""


def _percent_hint(name: str, value: Any) -> str:
    is_percent = name == "density" and isinstance(value, (int, float)) and 1 < value <= 100
    return f"{value:g} % is {value / 100:g}" if is_percent else ""


def _judge_unknown(method: MergeMethod, name: str, place: str, faults: list[RecipeError], warnings: list[str]) -> None:
    known_elsewhere = set(_ELSEWHERE)
    for other in method_names():
        parameters = get_method(other).parameters
        known_elsewhere |= {parameters.alias(field) for field in parameters.model_fields}
    if name in known_elsewhere:
        warnings.append(f"{place} is ignored: {method.name} does not use it")
        return
    own = [method.parameters.alias(field) for field in method.parameters.model_fields]
    close = get_close_matches(name, own, n=1, cutoff=0.6)
    hint = f"did you mean {close[0]}?" if close else f"{method.name} knows {', '.join(own)}"
    faults.append(RecipeError(f"unknown parameter {name!r}", where=place, hint=hint))
