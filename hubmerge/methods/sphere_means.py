"""Means on the sphere: directions are averaged apart from lengths, for any number of parents.

Both methods return a linear combination of the parents whose coefficients depend on the tensors only through their inner
products, so that all iterations run on parents x parents numbers in float64.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy import float32
from pydantic import Field

from hubmerge.errors import NumbersError
from hubmerge.method import Measure, Parameters, PerParent, entrywise, merge_method
from hubmerge.method_parameters import refuse_weights_without_sum
from hubmerge.ops.sums import weighted_sum

__all__ = [
    "KarcherParameters",
    "MultislerpParameters",
    "karcher",
    "karcher_coefficients",
    "multislerp",
    "multislerp_coefficients",
]

Array = np.ndarray[Any, np.dtype[Any]]

_RESOLUTION = 1e-7
"""What inner products in float64 tell of a length, relative to the terms that cancel: the root of their rounding."""


def _times(gram: Array, vector: Array) -> Array:
    """The product of a matrix and a vector, every sum rounded once: the same on every machine, and in any order."""
    return np.array([math.fsum(row * vector) for row in gram])


def _length(vector: Array, gram: Array) -> float:
    """The length of a combination of vectors that have the inner products `gram`; 0 where rounding makes it negative."""
    return math.sqrt(max(0.0, math.fsum(vector * _times(gram, vector))))


class MultislerpParameters(Parameters):
    weight: PerParent[float] = Field(1.0, description="share of this parent")
    normalize_weights: bool = Field(True, description="divide the weights by their sum")
    eps: float = Field(1e-8, gt=0, description="added to lengths; a mean direction shorter than this is none")


def _weights_have_a_sum(values: Mapping[str, Any]) -> None:
    if values["normalize_weights"]:
        refuse_weights_without_sum(values["weight"], switch="normalize_weights")


def multislerp_coefficients(
    gram: Array, weight: Sequence[float], normalize_weights: bool, eps: float
) -> tuple[float, ...]:
    """The number that every parent's entries are multiplied by.

    gram: inner products, float64 (parents, parents).  With lengths n, directions u = x / (n + eps) and m = sum(w u), the
    result is sum(w n) m / |m|, so parent i has the coefficient sum(w n) w_i / ((n_i + eps) |m|).  mergekit besides takes a
    step along the weighted sum of the directions' tangents at m, which is zero whatever the tensors: sum(w u) is m itself.
    Where m is shorter than `eps` or 1e-7 sum(|w|), two parents are added as sum(w x); more raise NumbersError, unless all are
    zero.  A single parent is returned as it is.
    """
    if len(weight) == 1 or not np.isfinite(gram).all():  # the pass that merges refuses what is not finite
        return (1.0,) * len(weight)
    shares = np.array(weight) / (sum(weight) if normalize_weights else 1.0)
    lengths = np.sqrt(np.diag(gram))
    scaled = shares / (lengths + eps)
    mean = _length(scaled, gram)
    if mean > max(eps, _RESOLUTION * math.fsum(np.abs(scaled * lengths))):
        return tuple((math.fsum(shares * lengths) / mean * scaled).tolist())
    if len(weight) == 2 or not lengths.any():
        return tuple(shares.tolist())
    raise NumbersError(
        "the parents point in directions that cancel, so their mean has none",
        hint="change the weights a little, or leave one of the parents out",
    )


def _multislerp_arguments(measure: Measure, values: Mapping[str, Any]) -> Mapping[str, Any]:
    given = values["weight"], values["normalize_weights"], values["eps"]
    return {"coefficients": multislerp_coefficients(measure.gram(), *given)}


@merge_method(
    "multislerp",
    parameters=MultislerpParameters,
    operand="weight",
    base="optional",
    measure=_multislerp_arguments,
    check=_weights_have_a_sum,
    paper="Goddard 2025, Multi-SLERP, https://goddard.blog/posts/multislerp-wow-what-a-cool-idea",
)
@entrywise
def multislerp(entries: Sequence[float32], coefficients: Sequence[float32]) -> float32:
    """Average the parents' directions and, apart from them, their lengths; with a base model those of their deltas.

    entries: one float32 per parent, weights or deltas.  coefficients: `multislerp_coefficients` of the whole tensor: with
    lengths n and directions u = x / (n + eps) of the parents x, flat vectors, the result is sum(w n) m / |m| for m = sum(w u).
    mergekit writes the same with a step in the tangent space at m, which is zero whatever the tensors.  Two parents whose
    directions cancel are added, sum(w x); more of them are refused.
    """
    merged: float32 = weighted_sum(entries, coefficients)
    return merged


class KarcherParameters(Parameters):
    max_iter: int = Field(10, ge=0, le=10_000, description="most steps towards the mean")
    tol: float = Field(1e-5, gt=0, lt=1, description="a shorter step is the last; shorter tensors have no direction")


def karcher_coefficients(gram: Array, max_iter: int, tol: float) -> tuple[float, ...]:
    """The number that every parent's entries are multiplied by.

    gram: inner products, float64 (parents, parents).  Gradient descent with step 1 on the sphere (Karcher 1977), from the
    normalised mean of the directions (the first direction where that mean is shorter than `tol`); tensors of length at most
    `tol` have no direction and take no part.  The result is as long as the mean of all lengths.  A direction opposite to the
    mean pulls nowhere: there is no shortest way from it, so that of two opposite tensors the first gives the direction.
    """
    count = len(gram)
    if count == 1 or not np.isfinite(gram).all():  # the pass that merges refuses what is not finite
        return (1.0,) * count
    lengths = np.sqrt(np.diag(gram))
    valid = np.flatnonzero(lengths > tol)
    if not valid.size:
        return (0.0,) * count
    cosines = gram[np.ix_(valid, valid)] / np.outer(lengths[valid], lengths[valid])

    mean = np.full(valid.size, 1 / valid.size)  # in coordinates of the directions
    start = _length(mean, cosines)
    mean = np.eye(valid.size)[0] if start < tol else mean / start
    for _ in range(max_iter):
        tangent = _tangent(mean, _times(cosines, mean), tol)
        step = _length(tangent, cosines)
        if step < tol:
            break
        mean = math.cos(step) * mean + math.sin(step) / step * tangent
        mean /= _length(mean, cosines)
    coefficients = np.zeros(count)
    coefficients[valid] = math.fsum(lengths) / count * mean / lengths[valid]
    return tuple(coefficients.tolist())


def _tangent(mean: Array, cosines: Array, tol: float) -> Array:
    """The mean of the ways from `mean` to all directions, in coordinates of the directions."""
    tangent = np.zeros_like(mean)
    for i, cosine in enumerate(np.clip(cosines, -1, 1)):
        angle = math.acos(cosine)
        if tol <= angle < math.pi - _RESOLUTION:
            toward = -cosine * mean
            toward[i] += 1
            tangent += angle / math.sin(angle) * toward / mean.size
    return tangent


def _karcher_arguments(measure: Measure, values: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"coefficients": karcher_coefficients(measure.gram(), values["max_iter"], values["tol"])}


@merge_method(
    "karcher",
    parameters=KarcherParameters,
    operand="weight",
    measure=_karcher_arguments,
    paper="Karcher 1977, Riemannian center of mass, CPAM 30(5); for models: arXiv:2603.04972",
)
@entrywise
def karcher(weights: Sequence[float32], coefficients: Sequence[float32]) -> float32:
    """Take the point of the sphere that is nearest to all parents' directions, and their mean length.

    weights: one float32 per parent; a base model is one more parent.  coefficients: `karcher_coefficients` of the whole
    tensor, which is one flat vector of each parent: up to `max_iter` steps of gradient descent on the sphere, from the
    normalised mean of the directions.  All parents weigh the same.  Of opposite tensors the first gives the direction.
    """
    merged: float32 = weighted_sum(weights, coefficients)
    return merged
