"""The tokenizer's part of a recipe, as mergekit writes it: whose vocabulary, where single rows come from, padding."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema

from hubmerge.errors import shown
from hubmerge.recipe_parts import Part
from hubmerge.recipe_values import Reference, TokenizerSource, read_reference

__all__ = ["TokenEntry", "TokenSource", "TokenizerPart"]


class TokenSource(Part):
    """Where the row of one token comes from.

    kind: ``model_token``, the row of `token` (or of the row number `token_id`, or of the token itself when neither is
    given) in `model`; ``zero``, a row of zeros.
    """

    kind: Literal["model_token", "zero"]
    model: Reference | None = None
    token: str | None = None
    token_id: int | None = None


def _token_source(value: Any) -> Any:
    """Three forms, as in mergekit: a model's name, ``{kind: model_token, ...}`` and ``{kind: zero}``."""
    if value is None or isinstance(value, TokenSource):
        return value
    if not isinstance(value, Mapping) or "kind" not in value:
        return {"kind": "model_token", "model": read_reference(value)}
    kind = value["kind"]
    if kind not in ("model_token", "zero"):  # a tuple, since what stands there may be a mapping
        raise ValueError(f"kind must be model_token or zero, got {shown(kind)}")
    known = {"kind", "model", "token", "token_id"} if kind == "model_token" else {"kind"}
    stated = {key: part for key, part in value.items() if part is not None}
    if set(stated) - known:
        raise ValueError(f"{kind} takes no {shown(next(iter(set(stated) - known)))}")
    if kind == "model_token" and "model" not in stated:
        raise ValueError("model_token needs the model whose row is taken")
    if {"token", "token_id"} <= set(stated):
        raise ValueError("give token or token_id, not both")
    number = stated.get("token_id", 0)
    if isinstance(number, bool) or not isinstance(number, int) or number < 0:
        raise ValueError(f"token_id is the number of a row, got {shown(number)}")
    if not isinstance(stated.get("token", ""), str):
        raise ValueError(f"a token is text, got {shown(stated['token'])}; put it in quotes")  # noqa: TRY004 - pydantic's
    return stated


_TokenSource = Annotated[
    TokenSource | None,
    BeforeValidator(_token_source),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "object"}, {"type": "null"}]}),
]


class TokenEntry(Part):
    """What is said of one token."""

    source: _TokenSource = Field(
        None, description="the row for models that lack the token: a model, a model's token, zero"
    )
    force: bool = Field(False, description="take that row for all models, also for those that have the token")


def _token_entry(value: Any) -> Any:
    return {} if value is None else value


class TokenizerPart(Part):
    """How the vocabulary of the merge is made."""

    source: TokenizerSource = Field(
        "union", description="whose vocabulary: union (of all models), base, or a model by name"
    )
    tokens: dict[str, Annotated[TokenEntry, BeforeValidator(_token_entry)]] = Field(
        default_factory=dict, description="where the rows of single tokens come from; new tokens are added"
    )
    pad_to_multiple_of: int | None = Field(
        None, ge=0, strict=True, description="rows of embedding and head are filled up to a multiple of this"
    )
