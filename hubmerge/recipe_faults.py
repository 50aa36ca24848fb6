"""From pydantic's errors to ours: dotted places, the nearest known key, one fault for one mistake."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any

from pydantic import BaseModel, ValidationError

from hubmerge.errors import RecipeError
from zoo_index.errors import HubmergeError

__all__ = ["dotted", "faults_of"]

_LATER = {
    "slices": "layer slices", "modules": "modules", "tokenizer": "building a tokenizer", "chat_template": "chat templates",
    "align": "alignment", "basis": "adapter spaces", "fit": "refitting", "calibration": "calibration data",
    "sparsify": "stages", "combine": "stages",
}  # fmt: skip
"""Keys of the dialect that this version does not read."""


def dotted(place: tuple[int | str, ...]) -> str:
    """``("models", 1, "parameters")`` as ``models[1].parameters``."""
    text = ""
    for part in place:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def faults_of(error: ValidationError, schema: type[BaseModel]) -> list[HubmergeError]:
    """One `RecipeError` for every fault pydantic found while reading a `schema`."""
    rows: list[dict[str, Any]] = [dict(row) for row in error.errors()]
    places: set[tuple[int | str, ...]] = {tuple(row["loc"]) for row in rows}
    layered = ("slices",) in places or ("modules",) in places
    inside_models = any(len(place) > 1 and place[0] == "models" for place in places)
    follow = {("models",)} if layered or inside_models else set()
    return [_fault(row, schema) for row in rows if tuple(row["loc"]) not in follow]


def _fault(row: dict[str, Any], schema: type[BaseModel]) -> HubmergeError:
    place, kind = tuple(row["loc"]), row["type"]
    where = dotted(place)
    cause = row.get("ctx", {}).get("error")
    if isinstance(cause, HubmergeError):
        return RecipeError(cause.message, where=where, hint=cause.hint)
    if kind == "extra_forbidden":
        return _unknown_key(place, where, schema)
    if kind == "missing":
        return RecipeError(f"{place[-1]} is missing", where=where, hint="see docs/recipe.md")
    if kind == "too_short":
        return RecipeError("no models are listed", where=where, hint="add `- model: org/name` lines")
    if kind in {"model_type", "dict_type"} and len(place) == 2 and place[0] == "models":
        return RecipeError(
            f"a model is a mapping, got {row['input']!r}", where=where, hint=f"write `- model: {row['input']}`"
        )
    if kind == "value_error":
        return RecipeError(str(cause), where=where)
    return RecipeError(
        f"{row['msg'].lower().removeprefix('input ')}, got {row['input']!r}", where=where, hint="see docs/recipe.md"
    )


def _unknown_key(place: tuple[int | str, ...], where: str, schema: type[BaseModel]) -> HubmergeError:
    key = str(place[-1])
    if len(place) == 1 and key in _LATER:
        return RecipeError(
            f"{key} ({_LATER[key]}) is not read by this version",
            where=where,
            hint="leave it out, or use a newer hubmerge",
        )
    known = _keys_at(place[:-1], schema)
    close = get_close_matches(key, known, n=1, cutoff=0.6)
    hint = f"did you mean {close[0]}?" if close else f"known here: {', '.join(known)}"
    if len(place) > 1 and place[0] == "models" and not close:
        hint = "parameters of a model go under its `parameters:`"
    return RecipeError(f"unknown key {key!r}", where=where, hint=hint)


def _keys_at(place: tuple[int | str, ...], schema: type[BaseModel]) -> list[str]:
    if not place:
        return list(schema.model_fields)
    field = schema.model_fields.get(str(place[0]))
    if field is None:
        return []
    annotation: Any = field.annotation
    inner = [
        part
        for part in getattr(annotation, "__args__", (annotation,))
        if isinstance(part, type) and issubclass(part, BaseModel)
    ]
    return list(inner[0].model_fields) if inner else []
