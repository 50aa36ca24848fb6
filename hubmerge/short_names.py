"""Names of models in tables and drawings: the last part of every name where that tells them apart."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["short_names"]


def short_names(names: Sequence[str]) -> list[str]:
    """The last part of every name where that tells them apart, else the names as they are."""
    last = [name.rstrip("/").rsplit("/", 1)[-1] for name in names]
    return last if len(set(last)) == len(names) else list(names)
