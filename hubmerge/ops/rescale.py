"""How thinned deltas are scaled up again: the words of the `rescale` parameter, and the factor that keeps a tensor's L1 norm."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BeforeValidator

__all__ = ["InverseRescale", "NormRescale", "norm_factors"]

_SMALLEST = 1e-7


def _word(value: Any) -> Any:
    """The words that mergekit's true and false stand for."""
    spelled = value.lower() if isinstance(value, str) else value
    if spelled in (True, 1, "true", "yes", "on"):
        return "l1"
    return "none" if spelled in (False, 0, "false", "no", "off") else value


NormRescale = Annotated[Literal["l1", "none"], BeforeValidator(_word)]
InverseRescale = Annotated[Literal["l1", "inverse", "none"], BeforeValidator(_word)]


def norm_factors(sums: Sequence[tuple[float, float]]) -> tuple[np.float32, ...]:
    """For every parent what its kept entries are multiplied by, from the L1 norms of its delta before and after.

    1 when either norm is below 1e-7, as in mergekit.
    """
    return tuple(np.float32(1 if min(pair) < _SMALLEST else pair[0] / pair[1]) for pair in sums)
