"""Arguments of a rule that are true or false, settled when it is compiled: the code has no trace of what they switch off.

A compiler that merges several entries at once carries out both sides of a condition: TIES took half as long again for a
division that nobody had asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from hubmerge.jit import called_inside

__all__ = ["Switches", "settled", "switches_of"]

Switches = tuple[tuple[int, bool], ...]
"""Places in a rule's arguments behind the entries, and what is there."""


def switches_of(arguments: tuple[Any, ...]) -> Switches:
    """Those of the arguments that a rule is called with."""
    return tuple((place, bool(value)) for place, value in enumerate(arguments) if isinstance(value, (bool, np.bool_)))


def settled(rule: Callable[..., Any], switches: Switches) -> Callable[..., Any]:
    """`rule` for calls from compiled passes; it is given its switches, too, and does not look at them."""
    made = called_inside(rule)
    for place, value in switches:
        made = called_inside(_with_argument(made, place, value))
    return made


def _with_argument(rule: Callable[..., Any], place: int, value: bool) -> Callable[..., Any]:
    after = place + 1

    def run(entries: Any, *arguments: Any) -> Any:
        fixed = (value,)
        return rule(entries, *(arguments[:place] + fixed + arguments[after:]))

    return run
