"""The stage that keeps entries of a delta at random (DARE)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy import float32
from pydantic import Field

from hubmerge.jit import jitable
from hubmerge.marks import MARKED, mark_words
from hubmerge.method import Measure, Parameters, PerParent, Stage
from hubmerge.ops.random import uniform_bits
from hubmerge.ops.rescale import InverseRescale, norm_factors

__all__ = ["RANDOM", "RandomParameters", "is_kept", "keep_at_random"]

State = tuple[np.uint64, np.uint32, np.float32]


class RandomParameters(Parameters):
    density: PerParent[float] = Field(1.0, ge=0, le=1, description="probability with which an entry of a delta is kept")
    rescale: InverseRescale = Field(
        "l1",
        description="l1 (or true): scale what is kept so that the L1 norm stays; inverse: divide by density; none (or false)",
    )


@jitable
def is_kept(index: int, state: tuple[np.uint64, np.uint32, float32]) -> bool:
    """Whether `keep_at_random` keeps an entry."""
    kept: bool = uniform_bits(state[0], index) <= state[1]
    return kept


def keep_at_random(delta: float32, index: int, state: tuple[np.uint64, np.uint32, float32]) -> float32:
    """Keep every entry of a delta with probability `density`, and scale the kept ones up as `rescale` says.

    state: the key of the parent's tensor, the largest random number that keeps, the factor.  Which entries are kept depends
    on the recipe's seed, the parent's place in it, the tensor's name and the entry's index, and on nothing else.  The probability is
    a whole multiple of 2^-32.  The authors, and PEFT, divide by density (`rescale: inverse`); mergekit keeps the L1 norm.
    """
    return delta * state[2] if is_kept(index, state) else float32(0)


def _state(measure: Measure, values: Mapping[str, Any]) -> Sequence[State]:
    limits = [np.uint32(max(0, round(density * 2**32) - 1)) for density in values["density"]]
    inverse = values["rescale"] == "inverse"
    factors = tuple(np.float32(1 / density if inverse and density else 1) for density in values["density"])
    states = [(key, limit, factor) for key, limit, factor in zip(measure.keys, limits, factors, strict=True)]
    if values["rescale"] == "l1" and min(values["density"]) < 1:
        factors = norm_factors(measure.kept(keep_at_random, states))
    none = np.float32(0)  # of 2^32 random numbers one is as small as the smallest limit
    return [
        (key, limit, factor if density else none)
        for (key, limit, _), factor, density in zip(states, factors, values["density"], strict=True)
    ]


RANDOM = Stage(
    "random",
    RandomParameters,
    keep_at_random,
    _state,
    passes=lambda values: int(values["rescale"] == "l1" and min(values["density"]) < 1),
    memory=lambda entries: 8 * mark_words(entries) if entries <= MARKED else 0,
    choice=is_kept,
    paper="Yu et al. 2024, Language models are super Mario (DARE), arXiv:2311.03099",
    revision=2,
)
