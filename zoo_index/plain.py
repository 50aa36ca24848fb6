"""What strangers wrote (JSON, YAML) -> plain JSON values that are bounded and safe to print and to store.

Cards and configs are untrusted: they can be nested without end, refer to themselves (YAML anchors), hold numbers that
JSON has not, or characters that move a terminal's cursor.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Mapping
from typing import TypeAlias

from pydantic import JsonValue

from zoo_index.errors import CheckpointError

__all__ = ["MAX_DEPTH", "MAX_VALUES", "Json", "one_line", "plain"]

Json: TypeAlias = JsonValue

MAX_VALUES = 500_000
"""Most values one document may hold: a config with 21,843 labels has about 90,000."""
MAX_DEPTH = 64
"""Deepest nesting of one document; configs have about 5."""

_INVISIBLE = {"Cc", "Cf", "Cs", "Co", "Cn"}
_MAX_LINE = 300
_MAX_BITS = (
    1024  # Python refuses to write numbers of more than 4,300 digits in decimal; YAML can hold them in hexadecimal
)


def plain(value: object, *, where: str = "") -> Json:
    """`value` with only what JSON has: text of visible characters, finite numbers, lists, objects with text keys.

    Numbers that are not finite become text, other types (YAML's dates) become their text, control characters become
    U+FFFD (line breaks and tabs stay).  Raises `CheckpointError` beyond `MAX_VALUES` or `MAX_DEPTH`.
    """
    budget = [MAX_VALUES]

    def walk(node: object, depth: int) -> Json:
        budget[0] -= 1
        if budget[0] < 0 or depth > MAX_DEPTH:
            limit = f"more than {MAX_VALUES} values" if budget[0] < 0 else f"values nested deeper than {MAX_DEPTH}"
            raise CheckpointError(f"the metadata holds {limit}", where=where, hint="make it smaller")
        if isinstance(node, int) and node.bit_length() > _MAX_BITS:
            return hex(node)
        if node is None or isinstance(node, bool | int):
            return node
        if isinstance(node, float):
            return node if math.isfinite(node) else str(node)
        if isinstance(node, Mapping):
            return {_visible(str(key)): walk(item, depth + 1) for key, item in node.items()}
        if isinstance(node, list | tuple | set):
            return [walk(item, depth + 1) for item in node]
        return _visible(str(node))

    return walk(value, 0)


def one_line(value: object) -> str | None:
    """Text or a number as one line of at most 300 visible characters; None for anything else and for empty text."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    text = " ".join(_visible(str(value)).split())
    return (text if len(text) <= _MAX_LINE else text[: _MAX_LINE - 1] + "…") or None


def _visible(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(
        "\ufffd" if unicodedata.category(char) in _INVISIBLE and char not in "\n\t" else char for char in text
    )
