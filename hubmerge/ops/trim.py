"""Stages that decide which entries of a delta survive."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy import float32
from pydantic import Field

from hubmerge.method import Measure, Parameters, PerParent, Stage

__all__ = ["MagnitudeParameters", "keep_large", "trim_by_magnitude"]


class MagnitudeParameters(Parameters):
    density: PerParent[float] = Field(1.0, gt=0, le=1, description="kept share of a delta's entries, the largest ones")


def keep_large(delta: float32, index: int, state: tuple[float32]) -> float32:  # noqa: ARG001 - every stage is given the index
    """`delta` when its magnitude is at least ``state[0]``, else 0."""
    return delta if abs(delta) >= state[0] else float32(0)


def _thresholds(measure: Measure, values: Mapping[str, Any]) -> Sequence[tuple[np.float32]]:
    every = measure.entries + 1  # a rank that no entry has gives 0, and 0 keeps all
    kept = [max(1, int(density * measure.entries)) for density in values["density"]]
    ranks = [[k if k < measure.entries else every] for k in kept]
    return [(found[0],) for found in measure.ranked(ranks)]


trim_by_magnitude = Stage("magnitude", MagnitudeParameters, keep_large, _thresholds, passes=2)
