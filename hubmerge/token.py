"""`as_token`: one call made as somebody else than who is logged in."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["as_token"]


@contextmanager
def as_token(token: str | bool | None) -> Iterator[None]:
    """While this lasts, `token` is the one that is logged in: parents are opened deep inside, where no argument reaches."""
    if not isinstance(token, str):
        yield
        return
    before = os.environ.get("HF_TOKEN")
    os.environ["HF_TOKEN"] = token
    try:
        yield
    finally:
        if before is None:
            del os.environ["HF_TOKEN"]
        else:
            os.environ["HF_TOKEN"] = before
