"""The single values of a recipe, from YAML to ours: a model's name, a type, a size, whose tokenizer.

Each reader raises ValueError (`ReferenceFormatError` is one), which the recipe reports with its place.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import PurePath, PurePosixPath
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

from hubmerge.errors import RecipeError, shown
from hubmerge.sizes import parse_size
from zoo_index.errors import ReferenceFormatError
from zoo_index.reference import ModelRef, is_local_name
from zoo_index.tensors import DType

__all__ = ["FloatType", "LayerRange", "Reference", "Size", "TokenizerSource", "read_reference"]


class _Refused(RecipeError, ValueError):
    """A fault with a hint of its own, in the form that a validator may raise."""


def read_reference(value: Any) -> ModelRef:
    """A model's name as text, a path or mergekit's mapping; a folder spelled in several ways gets one spelling."""
    if isinstance(value, ModelRef):
        return _one_spelling(value)
    if isinstance(value, str):
        return _one_spelling(_from_text(value))
    if isinstance(value, PurePath):
        path = value.as_posix()
        return _one_spelling(ModelRef.of(path if is_local_name(path) else f"./{path}"))
    if isinstance(value, Mapping):
        return _one_spelling(_from_mapping(value))
    raise ValueError(f"expected a model's name, got {shown(value)}")


def _from_text(text: str) -> ModelRef:
    """A name that no Hub model can have (``my models/a``) is a folder's, as in mergekit, where there is one."""
    try:
        return ModelRef.parse(text)
    except ReferenceFormatError:
        if text.strip() and os.path.isdir(text):  # noqa: PTH112 - pathlib's raises for names that are too long
            return ModelRef(f"./{text}")
        raise


def _from_mapping(value: Mapping[Any, Any]) -> ModelRef:
    """Mergekit's long form: ``{model: {path: ..., revision: ...}, lora: {path: ..., revision: ...}}``."""
    parts = {"model": value} if "path" in value else value
    stated = {str(name): part for name, part in parts.items() if part is not None}
    if set(stated) - {"model", "lora"} or "model" not in stated:
        raise ValueError(f"expected path and revision, or model and lora, got {shown(dict(value))}")
    read = {name: _from_row(name, part) for name, part in stated.items()}
    return ModelRef(read["model"].name, read["model"].revision, read.get("lora"))


def _from_row(name: str, part: Any) -> ModelRef:
    row = {"path": part} if isinstance(part, str) else part
    if not isinstance(row, Mapping) or not isinstance(row.get("path"), str) or set(row) - {"path", "revision"}:
        raise ValueError(f"{name}: expected path and revision, got {shown(part)}")
    revision = row.get("revision")
    if revision is not None and not isinstance(revision, str):
        raise ValueError(f"{name}: a revision is text, got {shown(revision)}; put it in quotes")
    return ModelRef.of(row["path"], revision)


def _one_spelling(reference: ModelRef) -> ModelRef:
    """``./a/`` and ``a/./b//c`` without what changes nothing; ``..`` stays, since it can follow a link."""
    adapter = _one_spelling(reference.adapter) if reference.adapter else None
    name = reference.name
    if not reference.is_local or "\\" in name:
        return ModelRef(name, reference.revision, adapter)
    if name.startswith("~") and str(reference.path).startswith("~"):  # a user without a home: it is left as it is
        raise ReferenceFormatError(f"{name!r} names the home folder of nobody here", hint="write the folder's path out")
    plain = str(PurePosixPath(name))
    starts = plain in {".", ".."} or plain.startswith(("../", "/")) or name.startswith("~") or name[1:3] == ":/"
    return ModelRef(plain if starts else f"./{plain}", None, adapter)


def _written(reference: ModelRef) -> Any:
    """A reference as a recipe says it: text, or a mapping where text would be misread (``+`` in a folder's name)."""
    text = str(reference)
    try:
        if ModelRef.parse(text) == reference:
            return text
    except ReferenceFormatError:
        pass
    rows = {"model": reference.model, "lora": reference.adapter}
    return {
        key: {"path": row.name, **({"revision": row.revision} if row.revision else {})}
        for key, row in rows.items()
        if row is not None
    }


_WRITTEN = (DType.F32, DType.F16, DType.BF16, DType.F64)


def _dtype(value: Any) -> str:
    dtype = DType.from_torch_name(value) if isinstance(value, str) else None
    expected = f"expected float32, float16, bfloat16 or float64, got {shown(value)}"
    if dtype not in _WRITTEN:
        raise ValueError(expected)
    if value.removeprefix("torch.") != dtype.torch_name:  # bf16, half: mergekit would not read such a recipe
        raise _Refused(expected, hint=f"write {dtype.torch_name}")
    return dtype.torch_name


def _layer_range(value: Any) -> tuple[int, int]:
    """Mergekit's ``[first, one after the last]``; numbers may be text or 2.0."""
    ends = [_layer(end) for end in value] if isinstance(value, list | tuple) and len(value) == 2 else []
    if None in ends or not ends:
        raise ValueError(f"layer_range must be two layer numbers like [0, 8], got {shown(value)}")
    first, after = (end for end in ends if end is not None)
    if first < 0 or after < first:
        what = "runs backwards" if after < first else "begins before layer 0"
        raise _Refused(
            f"layer_range [{first}, {after}] {what}",
            hint=f"write [{after}, {first}]" if after < first else "the first layer is 0, the end is not included",
        )
    if first == after:
        hint = f"the end is not included: [{first}, {first + 1}] is layer {first}; leave the slice out for no layer"
        raise _Refused(f"layer_range [{first}, {after}] holds no layer", hint=hint)
    return first, after


def _layer(end: Any) -> int | None:
    try:
        number = float(end) if isinstance(end, str | int | float) and not isinstance(end, bool) else None
    except (ValueError, OverflowError):
        return None
    return int(number) if number is not None and number.is_integer() else None


def _tokenizer_source(value: Any) -> str:
    if value in ("base", "union"):
        return str(value)
    return str(read_reference(value))


Reference = Annotated[
    ModelRef,
    BeforeValidator(read_reference),
    PlainSerializer(_written),
    WithJsonSchema({"type": "string", "description": "org/name, org/name@revision, ./folder, or base+adapter"}),
]
FloatType = Annotated[
    str,
    BeforeValidator(_dtype),
    WithJsonSchema({"enum": ["float32", "float16", "bfloat16", "float64"], "type": "string"}),
]
LayerRange = Annotated[
    tuple[int, int],
    BeforeValidator(_layer_range),
    PlainSerializer(list),
    WithJsonSchema({"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 2}),
]
Size = Annotated[int, BeforeValidator(parse_size), WithJsonSchema({"anyOf": [{"type": "integer"}, {"type": "string"}]})]
TokenizerSource = Annotated[str, BeforeValidator(_tokenizer_source), WithJsonSchema({"type": "string"})]
