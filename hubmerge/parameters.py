"""The parameters of a recipe: which names a method knows, which values they may have, and which apply to a tensor.

A value on a model comes before the same value in a scope that holds for all, and both before the method's default.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from typing import Annotated, Any

from pydantic import TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from hubmerge.errors import RecipeError, shown
from hubmerge.method import get_method, method_names
from hubmerge.method_parameters import Parameters, Parametrised
from hubmerge.settings import Setting, parse_setting

__all__ = ["ParameterScopes", "ScopeReader", "known_parameters"]

_WITHOUT_EFFECT = {"int8_mask": "is ignored: masks are not stored, so that their type is without meaning"}
"""Parameters of mergekit that change no number, and why."""

_KEYS = frozenset(
    {
        "align",
        "base_model",
        "basis",
        "calibration",
        "chat_template",
        "dtype",
        "fit",
        "labels",
        "merge_method",
        "missing",
        "other_bases",
        "out_dtype",
        "probe",
        "tokenizer",
        "tokenizer_source",
        "zoo",
    }
)
"""Keys of a recipe that stand under parameters by mistake."""

_FLOAT32_MAX = 3.4028234663852886e38
_EXPECTED: dict[Any, str] = {
    float: "a number from -3.4e38 to 3.4e38", int: "a whole number", bool: "true or false", str: "text",
}  # fmt: skip


@dataclass(frozen=True)
class ParameterScopes:
    """Parsed parameters of one section of a recipe: of each model, and of all, the narrowest scope first."""

    models: tuple[tuple[Any, Mapping[str, Setting]], ...]
    shared: tuple[Mapping[str, Setting], ...]

    @property
    def settings(self) -> tuple[tuple[str, Setting], ...]:
        """Every value with its name, the shared ones first."""
        return tuple(row for scope in (*self.shared, *(own for _, own in self.models)) for row in scope.items())

    @property
    def has_gradient(self) -> bool:
        return any(setting.has_gradient for _, setting in self.settings)

    @property
    def is_constant(self) -> bool:
        """Whether every tensor gets the same values."""
        return all(setting.is_constant for _, setting in self.settings)

    def speaks_for_all(self, name: str) -> bool:
        """Whether a value stands in a scope that holds for all models."""
        return any(name in scope for scope in self.shared)

    def resolve(
        self, method: Parametrised, parent: Any, tensor_name: str, depth: float, own_name: str | None = None
    ) -> dict[str, Any]:
        """The values a recipe gives `parent` for one tensor, by recipe name; names without a value are left out.

        own_name: what the parent itself calls the tensor, where layers are renumbered.  Filters of a parameter that every
        parent has for itself look at this name, filters of the others at the output's, as in mergekit.
        """
        own, per_parent = dict(self.models).get(parent, {}), method.parameters.per_parent()
        values: dict[str, Any] = {}
        for field in method.parameters.model_fields:
            name = method.parameters.alias(field)
            looked_at = own_name if own_name is not None and _of_models(method, field, per_parent) else tensor_name
            for scope in (own, *self.shared):
                value = scope[name].resolve(looked_at, depth) if name in scope else None
                if value is not None:
                    values[name] = value
                    break
        return values


class ScopeReader:
    """Reads the scopes of one recipe and gathers every fault, and a warning for every parameter that is ignored."""

    def __init__(self, method: Parametrised) -> None:
        self.method = method
        self.faults: list[RecipeError] = []
        self.warnings: list[str] = []
        self.notes: list[str] = []

    def read(self, raw: Mapping[Any, Any], where: str, *, of_one: bool = False) -> dict[str, Setting]:
        """One mapping of names to values.  where: its place; of_one: it belongs to a single model."""
        kept = {name: value for name, value in raw.items() if name not in _WITHOUT_EFFECT}
        self.notes += [f"{where}.{name} {_WITHOUT_EFFECT[name]}" for name in raw if name not in kept]
        return _read_scope(self.method, kept, where, of_one, self.faults, self.warnings)

    def require(self, own: Sequence[Any], shared: Sequence[Any]) -> None:
        """Look for required parameters that no scope of a section gives a value; the scopes as they are written."""
        for fault in _missing(self.method, own, shared):
            if all(str(fault) != str(other) for other in self.faults):
                self.faults.append(fault)


def _missing(method: Parametrised, own: Sequence[Any], shared: Sequence[Any]) -> list[RecipeError]:
    """Required parameters without a value; a misspelt one is told as such, and one of null or [] is missing."""
    per_parent = method.parameters.per_parent()
    given = {
        name for raw in shared if isinstance(raw, Mapping) for name, value in raw.items() if value not in (None, [])
    }
    misspelt = {_nearest(method, str(name)) for name in given - set(_names(method))}
    faults: list[RecipeError] = []
    for field, info in method.parameters.model_fields.items():
        name = method.parameters.alias(field)
        on_models = any(name in raw for raw in own if isinstance(raw, Mapping))
        if not info.is_required() or name in given | misspelt or (on_models and _of_models(method, field, per_parent)):
            continue
        hint = f"{method.name} needs it: {info.description}"
        if on_models:
            hint = "move it from the models to the top-level parameters"
        faults.append(RecipeError(f"parameter {name} is missing", where="parameters", hint=hint))
    return faults


def _of_models(method: Parametrised, field: str, own: frozenset[str]) -> bool:
    """Whether a model may have its own value: also where there is only one model to have it."""
    return field in own or method.parents == (1, 1)


def _names(method: Parametrised) -> list[str]:
    return [method.parameters.alias(field) for field in method.parameters.model_fields]


def _nearest(method: Parametrised, name: str) -> str | None:
    close = get_close_matches(name, _names(method), n=1, cutoff=0.6)
    return close[0] if close else None


def known_parameters() -> frozenset[str]:
    """Names of the parameters of all methods, and of those that change no number."""
    return frozenset(_WITHOUT_EFFECT).union(*(_names(get_method(name)) for name in method_names()))


def _read_scope(
    method: Parametrised,
    raw: Mapping[Any, Any],
    where: str,
    on_model: bool,
    faults: list[RecipeError],
    warnings: list[str],
) -> dict[str, Setting]:
    own = method.parameters.per_parent()
    fields = {method.parameters.alias(field): field for field in method.parameters.model_fields}
    settings: dict[str, Setting] = {}
    for name, value in raw.items():
        place = f"{where}.{name}"
        field = fields.get(name)
        if field is None:
            _judge_unknown(method, str(name), place, faults, warnings)
        elif on_model and not _of_models(method, field, own):
            if not method.parameters.model_fields[field].is_required():
                warnings.append(
                    f"{place} is ignored: {method.name} has one {name} for all models, under the top-level parameters"
                )
        elif value is not None:
            if value in ([], ()):
                warnings.append(f"{place} is an empty list, which counts as left out")
            try:
                settings[name] = parse_setting(value, _check_of(method.parameters, field))
            except _LeafFault as error:
                faults.append(RecipeError(str(error), where=place, hint=error.hint))
            except ValueError as error:
                faults.append(RecipeError(str(error), where=place, hint="see docs/recipe.md"))
    return settings


class _LeafFault(ValueError):
    """A value that a parameter cannot have, and what to write instead."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


@lru_cache(maxsize=1024)
def _check_of(parameters: type[Parameters], field: str) -> _LeafCheck:
    """What checks a field's values, made once: of a small merge's time, a tenth went into making them."""
    return _LeafCheck(parameters.alias(field), parameters.model_fields[field])


class _LeafCheck:
    """Parses one value of a field, with a message in the field's words."""

    def __init__(self, name: str, info: FieldInfo) -> None:
        self.name = name
        self.about = info.description or ""
        self.number = info.annotation in (float, int)
        self.adapter: TypeAdapter[Any] = TypeAdapter(Annotated[(info.annotation, name, *info.metadata)])  # type: ignore[arg-type]
        self.expected = _bounds(info.metadata) or _EXPECTED.get(info.annotation, "")

    def __call__(self, value: Any) -> Any:
        if self.number and isinstance(value, bool):
            raise self._fault(value)
        try:
            parsed = self.adapter.validate_python(value)
        except ValidationError as error:
            raise self._fault(value, error.errors()[0]["msg"].lower().removeprefix("input should be ")) from None
        if self.number and not abs(parsed) <= _FLOAT32_MAX:
            raise self._fault(value)
        return parsed

    def _fault(self, value: Any, otherwise: str = "") -> _LeafFault:
        text = str(value).strip().removesuffix("%") if isinstance(value, str | int | float) else ""
        is_percent = self.name == "density" and text.replace(".", "", 1).isdecimal() and 1 < float(text) <= 100
        hint = f"{float(text):g} % is {float(text) / 100:g}" if is_percent else f"{self.name}: {self.about}"
        return _LeafFault(f"{self.name} must be {self.expected or otherwise}, got {shown(value)}", hint)


def _bounds(metadata: Iterable[Any]) -> str:
    low = high = None
    for mark in metadata:
        low = f"({mark.gt}" if hasattr(mark, "gt") else f"[{mark.ge}" if hasattr(mark, "ge") else low
        high = f"{mark.lt})" if hasattr(mark, "lt") else f"{mark.le}]" if hasattr(mark, "le") else high
    return f"in {low or '(-inf'}, {high or 'inf)'}" if low or high else ""


def _judge_unknown(method: Parametrised, name: str, place: str, faults: list[RecipeError], warnings: list[str]) -> None:
    if name in known_parameters():
        warnings.append(f"{place} is ignored: {method.name} does not use it")
        return
    if name in _KEYS:
        faults.append(
            RecipeError(f"{name} is no parameter", where=place, hint=f"{name} stands at the top of the recipe")
        )
        return
    nearest = _nearest(method, name)
    hint = f"did you mean {nearest}?" if nearest else f"{method.name} knows {', '.join(_names(method))}"
    faults.append(RecipeError(f"unknown parameter {name!r}", where=place, hint=hint))
