"""The stages that keep entries of a delta by their magnitude: the largest ones, or all but the largest and the smallest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy import float32
from pydantic import Field

from hubmerge.method import Measure, Parameters, PerParent, Stage
from hubmerge.ops.rescale import NormRescale, norm_factors

__all__ = [
    "BREADCRUMBS",
    "MAGNITUDE",
    "BreadcrumbsParameters",
    "MagnitudeParameters",
    "keep_between",
    "keep_large",
    "magnitude_thresholds",
]

State = tuple[np.float32, ...]


class MagnitudeParameters(Parameters):
    density: PerParent[float] = Field(
        1.0, ge=0, le=1, description="kept share of a delta's entries, the largest ones; 0 keeps none"
    )
    rescale: NormRescale = Field("none", description="l1 (or true): scale what is kept so that the L1 norm stays")
    trim_scope: Literal["tensor", "layer", "model"] = Field(
        "tensor", description="what the largest entries are chosen of: each tensor, each layer, or the whole model"
    )


def keep_large(delta: float32, index: int, state: tuple[float32, float32]) -> float32:  # noqa: ARG001 - every stage is given the index
    """Keep the largest entries of each delta, the share `density` of them, and set the others to 0.

    state: the exact k-th largest magnitude, k = max(1, int(density * entries)), of the entries of a whole model int(density * entries) + 1
    as in the code of the authors of TIES, and the factor of the kept ones; with a density of 0 none is kept.  Entries that tie with the
    k-th all survive, so that the outcome does not depend on an order; more than k can be kept.
    """
    return delta * state[1] if abs(delta) >= state[0] else float32(0)


def magnitude_thresholds(measure: Measure, values: Mapping[str, Any]) -> list[float]:
    """For every parent the smallest magnitude that is kept, of the share ``values["density"]``; see `keep_large`.  At most two passes."""
    every = measure.entries + 1  # a rank that no entry has gives 0, and 0 keeps all
    one_more = int(values["trim_scope"] == "model")  # as in the authors' code, which trims whole models
    kept = [max(1, int(density * measure.entries) + one_more) if density else 0 for density in values["density"]]
    return [float(found[0]) for found in measure.ranked([[k if k < measure.entries else every] for k in kept])]


def _magnitude_state(measure: Measure, values: Mapping[str, Any]) -> Sequence[State]:
    found = measure.pooled if measure.pooled is not None else magnitude_thresholds(measure, values)
    return _scaled(measure, values, keep_large, [(np.float32(threshold),) for threshold in found])


def _scaled(measure: Measure, values: Mapping[str, Any], rule: Any, limits: Sequence[State]) -> Sequence[State]:
    """`limits` and the factor of the kept entries, measured where the recipe asks for it."""
    states = [(*limit, np.float32(1)) for limit in limits]
    if values["rescale"] == "none":
        return states
    factors = norm_factors(measure.kept(rule, states))
    return [(*limit, factor) for limit, factor in zip(limits, factors, strict=True)]


def _magnitude_passes(values: Mapping[str, Any]) -> int:
    """Two for the thresholds, also where they are those of a pool, and one for the norms.

    A large tensor's thresholds take one, unless a sample of it misleads: the plan counts with the most there can be.
    """
    return 2 * int(min(values["density"]) < 1) + int(values["rescale"] == "l1")


MAGNITUDE = Stage(
    "magnitude",
    MagnitudeParameters,
    keep_large,
    _magnitude_state,
    passes=_magnitude_passes,
    pool=lambda values: values["trim_scope"],
    pooled=magnitude_thresholds,
    revision=3,
)


class BreadcrumbsParameters(Parameters):
    density: PerParent[float] = Field(1.0, ge=0, le=1, description="kept share of a delta's entries; 1 keeps all")
    gamma: PerParent[float] = Field(0.01, ge=0, lt=1, description="share of the largest entries that are dropped")
    rescale: NormRescale = Field("none", description="l1 (or true): scale what is kept so that the L1 norm stays")


def keep_between(delta: float32, index: int, state: tuple[float32, float32, float32]) -> float32:  # noqa: ARG001 - as above
    """Drop the largest entries of each delta, the share `gamma`, and so many of the smallest that `density` is kept.

    state: the smallest and the largest magnitude that stay, exact, and the factor of the kept entries.  Of n entries in
    ascending order those from n - int(density * n) - int(gamma * n) on, but not below 0, stay, int(density * n) of them.
    Entries that tie with one of the two stay as well.
    """
    return delta * state[2] if state[0] <= abs(delta) <= state[1] else float32(0)


def _breadcrumbs_state(measure: Measure, values: Mapping[str, Any]) -> Sequence[State]:
    n = measure.entries
    ranks = [_kept_ranks(n, *row) for row in zip(values["density"], values["gamma"], strict=True)]
    limits = [(found[0], found[1]) for found in measure.ranked(ranks)]
    return _scaled(measure, values, keep_between, limits)


def _kept_ranks(n: int, density: float, gamma: float) -> tuple[int, int]:
    """Ranks, 1 the largest, of the smallest and the largest entry that stay; n + 1 and 0 where nothing bounds them."""
    kept = int(density * n)
    if density >= 1:
        return n + 1, 0
    if kept == 0:
        return 0, 0  # nothing is as large as infinity
    dropped = max(0, n - kept - int(gamma * n))
    return n - dropped, n - dropped - kept + 1


BREADCRUMBS = Stage(
    "breadcrumbs",
    BreadcrumbsParameters,
    keep_between,
    _breadcrumbs_state,
    passes=_magnitude_passes,
    paper="Davari and Belilovsky 2023, Model Breadcrumbs, arXiv:2312.06795",
    revision=2,
)
