"""From pydantic's errors to ours: dotted places, the nearest known key, one fault for one mistake."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, TypeVar, get_args, get_origin

import numpy as np
from pydantic import BaseModel, ValidationError

from hubmerge.errors import RecipeError, shown
from hubmerge.parameters import known_parameters
from zoo_index.errors import HubmergeError

__all__ = ["read_model"]

Model = TypeVar("Model", bound=BaseModel)
Place = tuple[int | str, ...]

_EXPECTED = {
    "dict_type": "a mapping of names to values", "model_type": "a mapping of names to values",
    "tuple_type": "a list", "string_type": "text", "float_type": "a number", "float_parsing": "a number",
    "finite_number": "a number", "int_type": "a whole number", "int_parsing": "a whole number",
    "int_from_float": "a whole number", "int_parsing_size": "a whole number",
}  # fmt: skip
"""pydantic's kinds of error, by what a person should have written."""

_DOCS = "see docs/recipe.md"

_ELSEWHERE = {
    "revision": "write model: org/name@revision",
    "layer_range": "layers are chosen in slices: - sources: [{model: org/name, layer_range: [0, 8]}]",
    "sources": "sources stand in an entry of slices",
    "experts": "mixtures of experts (mergekit-moe) are not made from recipes",
    "gate_mode": "mixtures of experts (mergekit-moe) are not made from recipes",
}
"""Keys at home in one place, or in another program's files, by what to say where they stand elsewhere."""

_LISTS = {
    "models": "- model: org/name", "sources": "- {model: org/name, layer_range: [0, 8]}",
    "slices": "- sources: [{model: org/name, layer_range: [0, 8]}]",
}  # fmt: skip
_ENTRIES = {
    "models": "a model", "sources": "a source", "slices": "a slice", "layer_range": "write layer_range: [0, 8]",
    "data": "write data: org/name, data: ./file.jsonl or data: ./folder",
}  # fmt: skip


def read_model(raw: Mapping[Any, Any], schema: type[Model]) -> tuple[Model | None, dict[Any, Any], list[HubmergeError]]:
    """Read `raw` as a `schema`, as far as it goes: the value, the mapping it was read from, and every fault.

    A key without a value counts as left out.  A misspelt key is one fault: it is then read under the name it is nearest
    to, so that it does not count as missing too, and what is inside it is looked at as well.
    """
    mended = _without_nulls(_copied(raw), schema)
    faults = _named_by_text(mended)
    while True:
        try:
            return schema.model_validate(mended), mended, faults
        except ValidationError as error:
            rows: list[dict[str, Any]] = [dict(row) for row in error.errors()]
        unknown = [row for row in rows if row["type"] == "extra_forbidden"]
        if not unknown:
            return None, mended, faults + _faults(rows)
        for row in unknown:
            place: Place = row["loc"]
            fault, meant = _unknown_key(place, schema, row["input"])
            faults.append(fault)
            _move(mended, place, meant)


def _copied(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _copied(item) for key, item in value.items()}
    if isinstance(value, np.generic):  # a mapping made in Python may hold numpy's numbers, which are no JSON
        return value.item()
    return [_copied(item) for item in value] if isinstance(value, list | tuple) else value


def _without_nulls(raw: Any, schema: type[BaseModel]) -> Any:
    """`raw` without the keys of `schema` that have no value, and so for the parts in it."""
    if isinstance(raw, list):
        return [_without_nulls(item, schema) for item in raw]
    if not isinstance(raw, dict):
        return raw
    kept = {key: value for key, value in raw.items() if value is not None or key not in schema.model_fields}
    for name, info in schema.model_fields.items():
        part = _part_of(info.annotation)
        if part is not None and name in kept:
            named = get_origin(info.annotation) is dict and isinstance(kept[name], dict)
            inside = kept[name].items() if named else ()
            kept[name] = {k: _without_nulls(v, part) for k, v in inside} if named else _without_nulls(kept[name], part)
    return kept


def _named_by_text(raw: dict[Any, Any]) -> list[HubmergeError]:
    """A fault for every module whose name is no text; it goes on under the text."""
    modules = raw.get("modules")
    odd = [name for name in modules if not isinstance(name, str)] if isinstance(modules, dict) else []
    if odd:
        raw["modules"] = {str(name): module for name, module in raw["modules"].items()}
    return [_no_text(name, "modules") for name in odd]


def _no_text(key: Any, where: str) -> HubmergeError:
    hint = "YAML reads on, off, yes and no as true and false" if isinstance(key, bool) else "put it in quotes"
    return RecipeError(f"a key is text, got {shown(key)}", where=where, hint=hint)


def _part_of(annotation: Any) -> type[BaseModel] | None:
    """The part of a recipe that a field holds, alone, in a list or by name."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((part for inner in get_args(annotation) if (part := _part_of(inner)) is not None), None)


def _move(raw: Any, place: Place, meant: tuple[str, ...]) -> None:
    """Put the value at `place` where it was meant to be, seen from the mapping it is in; drop it when that is taken."""
    for part in place[:-1]:
        raw = raw[part]
    value = raw.pop(place[-1])
    for part in meant[:-1]:
        raw = raw.setdefault(part, {})
    if meant and isinstance(raw, dict):
        raw.setdefault(meant[-1], value)


def _dotted(place: Place) -> str:
    """``("models", 1, "parameters")`` as ``models[1].parameters``."""
    text = ""
    for part in place:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def _faults(rows: list[dict[str, Any]]) -> list[HubmergeError]:
    """One fault for each of pydantic's rows, but for those that follow from another."""
    places = [tuple(row["loc"]) for row in rows]
    inside = {
        place[:i] for place in places for i in range(len(place))
    }  # a list without its faulty entries is too short
    return [
        _fault(row) for row, place in zip(rows, places, strict=True) if place[-1] != "[key]" and place not in inside
    ]


def _fault(row: dict[str, Any]) -> HubmergeError:
    place, kind, given = tuple(row["loc"]), row["type"], row["input"]
    where, cause = _dotted(place), row.get("ctx", {}).get("error")
    if isinstance(cause, HubmergeError):
        return RecipeError(cause.message, where=where, hint=cause.hint)
    if kind == "value_error":
        return RecipeError(str(cause), where=where, hint=_DOCS)
    if kind == "invalid_key":
        return _no_text(given, _dotted(place[:-1]))
    if place[-1] in _LISTS and kind in {"missing", "too_short", "tuple_type"}:
        what = f"{place[-1]} must be a list, got {shown(given)}" if kind == "tuple_type" else "no sources are listed"
        return RecipeError(what, where=where, hint=f"write one `{_LISTS[str(place[-1])]}` line for each")
    if kind == "missing":
        return RecipeError(f"{place[-1]} is missing", where=where, hint=_ENTRIES.get(str(place[-1]), _DOCS))
    if len(place) > 1 and place[-2] in _LISTS:
        form = _LISTS[str(place[-2])]
        hint = f"write `{form.replace('org/name', given)}`" if isinstance(given, str) else f"write `{form}`"
        return RecipeError(f"{_ENTRIES[str(place[-2])]} is a mapping, got {shown(given)}", where=where, hint=hint)
    expected = row.get("ctx", {}).get("expected") if kind == "literal_error" else _EXPECTED.get(kind)
    expected = expected or row["msg"].lower().removeprefix("input should be ")
    return RecipeError(f"{place[-1]} must be {expected}, got {shown(given)}", where=where, hint=_DOCS)


def _unknown_key(place: Place, schema: type[BaseModel], value: Any) -> tuple[HubmergeError, tuple[str, ...]]:
    """The fault of an unknown key, and the key that was meant where that is clear, seen from its own mapping."""
    key, where = str(place[-1]), _dotted(place)
    holder = _schema_at(place[:-1], schema)
    known = list(holder.model_fields)
    if key in known_parameters() and "parameters" in known and place[0] != "output":
        return RecipeError(f"unknown key {key!r}", where=where, hint=f"{key} goes under parameters:"), (
            "parameters",
            key,
        )
    if key in _ELSEWHERE and key not in known and len(place) + (key not in schema.model_fields) > 1:
        return RecipeError(f"unknown key {key!r}", where=where, hint=_ELSEWHERE[key]), ()
    if key in schema.model_fields and holder is not schema:
        return RecipeError(f"unknown key {key!r}", where=where, hint=f"{key} stands at the top of the recipe"), ()
    close = get_close_matches(key, known, n=2, cutoff=0.6)
    if isinstance(value, list):  # models and modules are near to one another
        close.sort(key=lambda name: get_origin(holder.model_fields[name].annotation) is dict)
    hint = f"did you mean {close[0]}?" if close else f"known here: {', '.join(known)}"
    return RecipeError(f"unknown key {key!r}", where=where, hint=hint), (close[0],) if close else ()


def _schema_at(place: Place, schema: type[BaseModel]) -> type[BaseModel]:
    """The part that stands at `place`; numbers count entries, and a name that is no field is a module's."""
    for name in place:
        if name in schema.model_fields:
            schema = _part_of(schema.model_fields[str(name)].annotation) or schema
    return schema
