"""Interpolation along the arc between two models."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy import float32
from pydantic import Field

from hubmerge.method import Parameters, Reduction, entrywise, merge_method

__all__ = ["SlerpParameters", "arc_coefficients", "slerp"]

_PARALLEL = 0.9995
_TINY = 1e-8


class SlerpParameters(Parameters):
    t: float = Field(description="0 is the base model, 1 the other parent; outside [0, 1] extrapolates")


def arc_coefficients(gram: np.ndarray, parameters: Mapping[str, Any]) -> Mapping[str, tuple[float, float]]:
    """The two numbers that a tensor's entries are combined with, from its 2 x 2 inner products (float64).

    With angle A between the flattened tensors: sin((1-t)A)/sin(A) and sin(tA)/sin(A); (1-t, t) when the cosine is
    beyond 0.9995 in magnitude.  A tensor of length below 1e-8 has no direction and counts as orthogonal, as in mergekit.
    """
    t = parameters["t"]
    norms = [math.sqrt(gram[i, i]) if math.sqrt(gram[i, i]) > _TINY else 1.0 for i in range(2)]
    cosine = min(1.0, max(-1.0, gram[0, 1] / (norms[0] * norms[1])))
    if abs(cosine) > _PARALLEL:
        return {"coefficients": (1 - t, t)}
    angle = math.acos(cosine)
    return {"coefficients": (math.sin((1 - t) * angle) / math.sin(angle), math.sin(t * angle) / math.sin(angle))}


def _ends(parameters: Mapping[str, Any], parents: int) -> tuple[float, ...]:  # noqa: ARG001 - slerp has two parents
    t = min(1.0, max(0.0, parameters["t"]))
    return (1 - t, t)


@merge_method(
    "slerp",
    parameters=SlerpParameters,
    operand="weight",
    base="start",
    parents=(2, 2),
    reduce=Reduction("gram", arc_coefficients),
    shares=_ends,
    paper="Shoemake 1985, Animating rotation with quaternion curves, SIGGRAPH",
)
@entrywise
def slerp(weights: Sequence[float32], coefficients: Sequence[float32]) -> float32:
    """Interpolate between the base model and one other along the arc between them, tensor by tensor.

    weights: the base's entry and the other's.  coefficients: `arc_coefficients` of the whole tensor, whose angle is
    between the tensors as flat vectors; the lengths are interpolated along with the directions.
    """
    return weights[0] * coefficients[0] + weights[1] * coefficients[1]
