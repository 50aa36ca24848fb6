"""From pydantic's errors to ours: dotted places, the nearest known key, one fault for one mistake."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, TypeVar

import numpy as np
from pydantic import BaseModel, ValidationError

from hubmerge.errors import RecipeError, shown
from hubmerge.parameters import known_parameters
from zoo_index.errors import HubmergeError

__all__ = ["read_model"]

Model = TypeVar("Model", bound=BaseModel)
Place = tuple[int | str, ...]

_LATER = {
    "slices": "layer slices", "modules": "modules", "tokenizer": "building a tokenizer", "chat_template": "chat templates",
    "align": "alignment", "basis": "adapter spaces", "fit": "refitting", "calibration": "calibration data",
    "sparsify": "stages", "combine": "stages",
}  # fmt: skip
"""Keys of the dialect that this version does not read."""

_EXPECTED = {
    "dict_type": "a mapping of names to values", "model_type": "a mapping of names to values",
    "tuple_type": "a list", "string_type": "text", "int_type": "a whole number", "int_parsing": "a whole number",
    "int_from_float": "a whole number", "int_parsing_size": "a whole number",
}  # fmt: skip
"""pydantic's kinds of error, by what a person should have written."""

_DOCS = "see docs/recipe.md"


def read_model(raw: Mapping[Any, Any], schema: type[Model]) -> tuple[Model | None, dict[Any, Any], list[HubmergeError]]:
    """Read `raw` as a `schema`, as far as it goes: the value, the mapping it was read from, and every fault.

    A key without a value counts as left out.  A misspelt key is one fault: it is then read under the name it is nearest
    to, so that it does not count as missing too, and what is inside it is looked at as well.
    """
    mended = _without_nulls(_copied(raw), schema)
    faults: list[HubmergeError] = []
    while True:
        try:
            return schema.model_validate(mended), mended, faults
        except ValidationError as error:
            rows: list[dict[str, Any]] = [dict(row) for row in error.errors()]
        unknown = [row for row in rows if row["type"] == "extra_forbidden"]
        if not unknown:
            return None, mended, faults + _faults(rows, raw)
        for row in unknown:
            place: Place = row["loc"]
            fault, meant = _unknown_key(place, schema)
            faults.append(fault)
            _move(mended, place, meant)


def _copied(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _copied(item) for key, item in value.items()}
    if isinstance(value, np.generic):  # a mapping made in Python may hold numpy's numbers, which are no JSON
        return value.item()
    return [_copied(item) for item in value] if isinstance(value, list | tuple) else value


def _without_nulls(raw: dict[Any, Any], schema: type[BaseModel]) -> dict[Any, Any]:
    kept = {key: value for key, value in raw.items() if value is not None or key not in {*schema.model_fields, *_LATER}}
    if isinstance(kept.get("models"), list):
        kept["models"] = [_entry_without_nulls(entry) for entry in kept["models"]]
    return kept


def _entry_without_nulls(entry: Any) -> Any:
    if not isinstance(entry, dict):
        return entry
    return {key: value for key, value in entry.items() if value is not None or key not in {"model", "parameters"}}


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


def _faults(rows: list[dict[str, Any]], raw: Mapping[Any, Any]) -> list[HubmergeError]:
    """One fault for each of pydantic's rows, but for those that follow from another."""
    inside_models = any(len(row["loc"]) > 1 and row["loc"][0] == "models" for row in rows)
    follow = {("models",)} if inside_models or {"slices", "modules"} & set(raw) else set()
    return [_fault(row) for row in rows if tuple(row["loc"]) not in follow and row["loc"][-1] != "[key]"]


def _fault(row: dict[str, Any]) -> HubmergeError:
    place, kind, given = tuple(row["loc"]), row["type"], row["input"]
    where, cause = _dotted(place), row.get("ctx", {}).get("error")
    if isinstance(cause, HubmergeError):
        return RecipeError(cause.message, where=where, hint=cause.hint)
    if kind == "value_error":
        return RecipeError(str(cause), where=where, hint=_DOCS)
    if kind == "invalid_key":
        hint = "YAML reads on, off, yes and no as true and false" if isinstance(given, bool) else "put it in quotes"
        return RecipeError(f"a key is text, got {shown(given)}", where=_dotted(place[:-1]), hint=hint)
    if place == ("models",) and kind in {"missing", "too_short", "tuple_type"}:
        what = f"models must be a list, got {shown(given)}" if kind == "tuple_type" else "no models are listed"
        return RecipeError(what, where=where, hint="write one `- model: org/name` line for each")
    if kind == "missing":
        return RecipeError(f"{place[-1]} is missing", where=where, hint=_DOCS)
    if len(place) == 2 and place[0] == "models":
        hint = f"write `- model: {given}`" if isinstance(given, str) else "write `- model: org/name`"
        return RecipeError(f"a model is a mapping, got {shown(given)}", where=where, hint=hint)
    expected = row.get("ctx", {}).get("expected") if kind == "literal_error" else _EXPECTED.get(kind)
    expected = expected or row["msg"].lower().removeprefix("input should be ")
    return RecipeError(f"{place[-1]} must be {expected}, got {shown(given)}", where=where, hint=_DOCS)


def _unknown_key(place: Place, schema: type[BaseModel]) -> tuple[HubmergeError, tuple[str, ...]]:
    """The fault of an unknown key, and the key that was meant where that is clear, seen from its own mapping."""
    key, where = str(place[-1]), _dotted(place)
    if len(place) == 1 and key in _LATER:
        hint = "leave it out, or use a newer hubmerge"
        return RecipeError(f"{key} ({_LATER[key]}) is not read by this version", where=where, hint=hint), ()
    known = _keys_at(place[:-1], schema)
    if key in known_parameters() and place[0] != "output":
        return RecipeError(f"unknown key {key!r}", where=where, hint=f"{key} goes under parameters:"), (
            "parameters",
            key,
        )
    if key == "revision" and place[0] == "models":
        return RecipeError(f"unknown key {key!r}", where=where, hint="write model: org/name@revision"), ()
    close = get_close_matches(key, known, n=1, cutoff=0.6)
    hint = f"did you mean {close[0]}?" if close else f"known here: {', '.join(known)}"
    return RecipeError(f"unknown key {key!r}", where=where, hint=hint), (close[0],) if close else ()


def _keys_at(place: Place, schema: type[BaseModel]) -> list[str]:
    if not place:
        return list(schema.model_fields)
    annotation: Any = schema.model_fields[str(place[0])].annotation
    inner = [
        part
        for part in getattr(annotation, "__args__", (annotation,))
        if isinstance(part, type) and issubclass(part, BaseModel)
    ]
    return list(inner[0].model_fields) if inner else []
