"""Adaptive weight disentanglement: what task vectors have in common, found from their inner products alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from numpy import float32

from hubmerge.jit import jitable
from hubmerge.ops.bits import replaced

__all__ = ["Disentangled", "Unit", "disentangled", "without_shared"]

Array = npt.NDArray[np.float64]
Unit = Literal["one", "norm", "auto"]

_NO_LENGTH = 1e-12
"""A vector so much shorter than the longest one has no direction: it is rounding."""
_RIGHT_ANGLE = 1e-12
"""A cosine of smaller magnitude is 0: rounding must not choose the side that a vector is pushed to."""
_DEPENDENT = 1e-12
"""An eigenvalue of a matrix of cosines that is rounding."""
_LONG_STEP = 0.1
"""A step that moves a vector by more of its length throws it about: by a quarter the descent goes astray."""


@dataclass(frozen=True)
class Disentangled:
    """The redundant vector delta = sum of `shared` * task vector, and what subtracting it does.

    shared: one number per task, 0 for one that was left out.  taken: whether it is subtracted from the task's vector.
    before, after: cosines of every two tasks' vectors, 0 with one that has no length.  norm: of the redundant vector;
    norms: of the task vectors.
    """

    shared: tuple[float, ...]
    taken: tuple[bool, ...]
    before: tuple[tuple[float, ...], ...]
    after: tuple[tuple[float, ...], ...]
    norm: float
    norms: tuple[float, ...]

    def to_dict(self) -> dict[str, Any]:
        """The same as JSON values."""
        return asdict(self)


def disentangled(gram: Array, *, alpha: float, step: float, iterations: int, unit: Unit = "one") -> Disentangled:
    """Descend the gradient of mean |cos(tau_i - delta, tau_j - delta)| + alpha ||delta||, from delta = 0.

    gram: inner products of the T task vectors tau, float64 (T, T).  The mean is over the T (T - 1) ordered pairs; alpha, step and
    iterations are those of Xiong et al. 2024, arXiv:2411.18729.  Every gradient is a sum of the tau, so that delta stays one, sum of
    c_s tau_s, and the descent of delta in the space of the weights is one of c: the same iterates, from inner products alone.  c is
    the shortest one where the tau are dependent (in units of their norms).

    unit: what step and alpha are measured in: lengths as they are ("one", the paper's), or in units of the root mean square of the
    norms ("norm"), which makes the outcome independent of the vectors' scale; "auto": "one", unless the vectors are too short for the
    step, which moves a vector by about step over its length.

    Where the loss has a corner the subgradient is 0: of ||delta|| at 0, of |cos| at a right angle.  A vector of length 0 has no
    direction: it takes no part, and nothing is subtracted from it.  With fewer than two vectors that have a length, and for inner products
    that are not finite, delta is 0.
    """
    gram = np.asarray(gram, np.float64)
    norms = np.sqrt(np.maximum(np.diagonal(gram), 0))
    usable = bool(np.isfinite(gram).all())
    part = np.flatnonzero(norms > _NO_LENGTH * norms.max()) if usable else np.empty(0, np.int64)
    shared = np.zeros(len(gram))
    if part.size >= 2:
        inner, lengths = gram[np.ix_(part, part)], norms[part]
        size = float(np.sqrt(np.mean(lengths**2)))
        by_norm = unit == "norm" or (unit == "auto" and step > _LONG_STEP * size**2)
        shared[part] = _descended(inner / size**2 if by_norm else inner, alpha, step, iterations)
    taken = np.isin(np.arange(len(gram)), part)
    rest = np.eye(len(gram)) - taken[:, None] * shared[None]
    inner_after = rest @ gram @ rest.T if usable else gram
    return Disentangled(
        shared=tuple(shared.tolist()),
        taken=tuple(taken.tolist()),
        before=_rows(_cosines(gram)[0] if usable else np.zeros_like(gram)),
        after=_rows(_cosines(inner_after)[0] if usable else np.zeros_like(gram)),
        norm=_length(shared, gram) if usable else 0.0,
        norms=tuple(norms.tolist()) if usable else (0.0,) * len(gram),
    )


def _descended(gram: Array, alpha: float, step: float, iterations: int) -> Array:
    """The coefficients c of delta after so many steps."""
    count, longest = len(gram), float(np.sqrt(np.diagonal(gram).max()))
    shortest_of, coefficients = _projector(gram), np.zeros(len(gram))
    for _ in range(iterations):
        rest = np.eye(count) - coefficients[None]
        cosines, inverse = _cosines(rest @ gram @ rest.T)
        signs = np.where(np.abs(cosines) < _RIGHT_ANGLE, 0.0, np.sign(cosines)) / (count * (count - 1))
        np.fill_diagonal(signs, 0)
        # d cos(u, v) / du = v / (|u| |v|) - cos u / |u|^2, and d u / d delta = -1
        towards = (signs * np.outer(inverse, inverse)).sum(axis=0) - (signs * cosines).sum(axis=1) * inverse**2
        gradient = -2 * towards @ rest
        length = _length(coefficients, gram)
        if length > _NO_LENGTH * longest:
            gradient += alpha / length * coefficients
        coefficients = shortest_of @ (coefficients - step * gradient)
    return coefficients


def _cosines(gram: Array) -> tuple[Array, Array]:
    """Cosines of every two vectors, and the inverse of every length; 0 for a vector without one."""
    lengths = np.sqrt(np.maximum(np.diagonal(gram), 0))
    has = lengths > _NO_LENGTH * max(float(lengths.max(initial=0)), np.finfo(float).tiny)
    inverse = np.where(has, 1 / np.where(has, lengths, 1), 0)
    return np.clip(gram * np.outer(inverse, inverse), -1, 1), inverse


def _projector(gram: Array) -> Array:
    """What makes coefficients the shortest of those that give the same vector, in units of the vectors' norms."""
    lengths = np.sqrt(np.diagonal(gram))
    values, vectors = np.linalg.eigh(gram / np.outer(lengths, lengths))
    kept = vectors[:, values > _DEPENDENT * values.max()]
    projector: Array = (kept @ kept.T) * lengths[None] / lengths[:, None]
    return projector


def _length(coefficients: Array, gram: Array) -> float:
    return float(np.sqrt(max(float(coefficients @ gram @ coefficients), 0.0)))


def _rows(matrix: Array) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(row) for row in matrix.tolist())


@jitable
def without_shared(deltas: Any, shared: Sequence[float32], taken: Sequence[float32]) -> Any:
    """One entry's deltas without the redundant vector: delta - taken * sum(shared * delta), taken 1 or 0 for each parent."""
    redundant = float32(0)
    for delta, share in zip(deltas, shared):
        redundant += delta * share
    for k in range(len(deltas)):
        deltas = replaced(deltas, k, float32(deltas[k] - taken[k] * redundant))
    return deltas
