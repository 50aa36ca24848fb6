"""Text that strangers wrote, made safe to stand in Markdown: every filter of the card's template is here."""

from __future__ import annotations

import re
from collections.abc import Sequence

from markupsafe import Markup

__all__ = ["Markup", "code", "fenced", "some", "text"]

_SPECIAL = re.compile(r"([\\`*\[\]|~$]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9]))")
_BLOCK_START = re.compile(r"^(?:(\d{1,9})(?=[.)](?:\s|$))|(?=[#+=-]))")
"""What would begin a heading, a list or a rule if the text stood at the start of a line."""


def text(value: object) -> Markup:
    """One line of plain text, also inside a table: nothing in it is Markdown or HTML."""
    line = " ".join(str(value).split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return Markup(_BLOCK_START.sub(r"\1\\", _SPECIAL.sub(r"\\\1", line)))  # noqa: S704 - escaped here and above


def code(value: object) -> Markup:
    """One line as inline code (not for a table when it can hold a bar)."""
    line = " ".join(str(value).split())
    ticks = "`" * (_longest_run(line) + 1)
    space = " " if line.startswith("`") or line.endswith("`") else ""
    return Markup(f"{ticks}{space}{line}{space}{ticks}")  # noqa: S704 - code spans hold no markup


def fenced(value: object, language: str = "") -> Markup:
    """Lines as a code block whose fence occurs nowhere in them."""
    ticks = "`" * max(3, _longest_run(str(value)) + 1)
    return Markup(f"{ticks}{language}\n{str(value).rstrip()}\n{ticks}")  # noqa: S704 - code blocks hold no markup


def some(values: Sequence[str], limit: int = 12) -> Markup:
    """The first values as plain text, and how many more there are."""
    shown = ", ".join(str(text(value)) for value in values[:limit])
    rest = f" and {len(values) - limit} others" if len(values) > limit else ""
    return Markup(shown + rest)  # noqa: S704 - escaped one by one


def _longest_run(value: str) -> int:
    return max((len(run) for run in re.findall(r"`+", value)), default=0)
