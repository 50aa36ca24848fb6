"""Interpolation along the arc between two models."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy import float32
from pydantic import Field

from hubmerge.method import Measure, Parameters, PerGroup, PerParent, entrywise, merge_method

__all__ = ["NuslerpParameters", "SlerpParameters", "arc_coefficients", "nuslerp", "nuslerp_coefficients", "slerp"]

Array = np.ndarray[Any, np.dtype[Any]]

_PARALLEL = 0.9995
_TINY = 1e-8
_SHORTEST = 1e-7
_ONE_LINE = 2.0**-23
_NO_SUM = 1e-6


class SlerpParameters(Parameters):
    t: float = Field(description="0 is the base model, 1 the other parent; outside [0, 1] extrapolates")


def arc_coefficients(gram: Array, t: float) -> tuple[float, float]:
    """The two numbers that a tensor's entries are combined with, from its 2 x 2 inner products (float64).

    With angle A between the flattened tensors: sin((1-t)A)/sin(A) and sin(tA)/sin(A); (1-t, t) when the cosine is
    beyond 0.9995 in magnitude.  A tensor of length below 1e-8 has no direction and counts as orthogonal, as in mergekit.
    """
    norms = [math.sqrt(gram[i, i]) if math.sqrt(gram[i, i]) > _TINY else 1.0 for i in range(2)]
    cosine = min(1.0, max(-1.0, gram[0, 1] / (norms[0] * norms[1])))
    if abs(cosine) > _PARALLEL:
        return (1 - t, t)
    angle = math.acos(cosine)
    return (math.sin((1 - t) * angle) / math.sin(angle), math.sin(t * angle) / math.sin(angle))


def _arc(measure: Measure, values: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"coefficients": arc_coefficients(measure.gram(), values["t"])}


def _ends(parameters: Mapping[str, Any], parents: int) -> tuple[float, ...]:  # noqa: ARG001 - slerp has two parents
    t = min(1.0, max(0.0, parameters["t"]))
    return (1 - t, t)


@merge_method(
    "slerp",
    parameters=SlerpParameters,
    operand="weight",
    base="start",
    parents=(2, 2),
    measure=_arc,
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


class NuslerpParameters(Parameters):
    weight: PerParent[float] = Field(1.0, description="share of this parent; only their ratio matters")
    nuslerp_flatten: bool = Field(
        True, description="one angle for the whole tensor; false: one for every row or column"
    )
    nuslerp_row_wise: bool = Field(
        False, description="with nuslerp_flatten: false, an angle for every column (along the first dimension)"
    )


def nuslerp_coefficients(gram: Array, weight: Sequence[float]) -> Array:
    """The two numbers that the entries of every group are combined with.

    gram: inner products, float64 (groups, 2, 2).  Returns float64 (groups, 2): sin(sA)/sin(A) for the shares s of the two
    weights in their sum (halves where that is below 1e-6) and the group's angle A.  On one line, that is where 1 - cos(A)^2
    is at most 2^-23 and float32 has no angle, the shares themselves, also for opposite vectors.  A vector shorter than 1e-7
    is divided by 1e-7 instead of its length, so that one of zeros counts as orthogonal to all others.
    """
    total = weight[0] + weight[1]
    shares = np.array([0.5, 0.5] if abs(total) < _NO_SUM else [weight[0] / total, weight[1] / total])
    lengths = np.maximum(np.sqrt(np.einsum("gii->gi", gram)), _SHORTEST)
    cosines = np.clip(gram[:, 0, 1] / (lengths[:, 0] * lengths[:, 1]), -1, 1)
    on_a_line = 1 - cosines**2 <= _ONE_LINE
    angles = _each(math.acos, np.where(on_a_line, 0, cosines))[:, None]
    return np.where(on_a_line[:, None], shares, _each(math.sin, shares * angles) / _each(math.sin, angles))


def _each(function: Callable[[float], float], numbers: Array) -> Array:
    """A function of the C library for every number: numpy's own differ in their last bits between processors."""
    return np.asarray(np.frompyfunc(function, 1, 1)(numbers), np.float64)


def _caution(values: Mapping[str, Any]) -> str:
    if values["nuslerp_row_wise"] and values["nuslerp_flatten"]:
        return "nuslerp_row_wise is ignored: with nuslerp_flatten: true (the default) there is one angle for the whole tensor"
    if abs(sum(values["weight"])) < _NO_SUM:
        return f"weights {list(values['weight'])} sum to zero: nuslerp goes halfway, as mergekit does"
    return ""


def _nuslerp_groups(values: Mapping[str, Any]) -> Literal["row", "column"] | None:
    if values["nuslerp_flatten"]:
        return None
    return "column" if values["nuslerp_row_wise"] else "row"


def _nuslerp_arguments(measure: Measure, values: Mapping[str, Any]) -> Mapping[str, Any]:
    group = _nuslerp_groups(values)
    if group is None:
        return {"coefficients": tuple(nuslerp_coefficients(measure.gram()[None], values["weight"])[0].tolist())}
    by = group if len(measure.shape) > 1 else "row"
    gram = measure.gram_columns() if by == "column" else measure.gram_rows()
    return {"coefficients": PerGroup(nuslerp_coefficients(gram, values["weight"]).astype(np.float32), by)}


@merge_method(
    "nuslerp",
    parameters=NuslerpParameters,
    operand="weight",
    base="optional",
    parents=(2, 2),
    measure=_nuslerp_arguments,
    groups=_nuslerp_groups,
    caution=_caution,
    paper="Shoemake 1985, Animating rotation with quaternion curves, SIGGRAPH; as in mergekit's nuslerp",
)
@entrywise
def nuslerp(entries: Sequence[float32], coefficients: Sequence[float32]) -> float32:
    """Interpolate between two models along the arc between them, by their weights; with a base model between their deltas.

    entries: one float32 of each parent, weights or deltas.  coefficients: `nuslerp_coefficients`, sin(s A) / sin(A) for the
    shares s of the two weights and the angle A between the whole tensors, between the entry's rows (``nuslerp_flatten:
    false``: vectors along the last dimension), or between its columns (``nuslerp_row_wise: true`` besides: vectors along
    the first dimension; the names are mergekit's).  A tensor of one dimension is one row.  Unlike slerp it stays on the arc
    however small the angle is; opposite vectors are interpolated on the line.  Weights that sum to zero mean halfway.
    """
    return entries[0] * coefficients[0] + entries[1] * coefficients[1]
