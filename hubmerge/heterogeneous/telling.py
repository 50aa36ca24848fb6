"""Progress in words, now and then: what is said too soon after the last sentence is not said."""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["now_and_then"]

_PAUSE = 10.0
"""Seconds."""


def now_and_then(note: Callable[[str], None]) -> Callable[[str], None]:
    """A function that passes a sentence on to `note`, not oftener than every `_PAUSE` seconds."""
    told = time.monotonic()

    def tell(text: str) -> None:
        nonlocal told
        now = time.monotonic()
        if now - told >= _PAUSE:
            note(text)
            told = now

    return tell
