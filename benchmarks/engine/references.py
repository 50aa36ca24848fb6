"""Every entrywise method in float64 numpy, the plainest way: what accuracy is measured against.

A reference takes the parents, the base model and the method's parameters, and returns the merged tensor.  It also says of
which entries the outcome is decided beyond doubt: where several entries tie for a threshold, or a sum that a sign is taken of
vanishes, tools may rightly differ.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["REFERENCES", "Merged"]

Array = npt.NDArray[np.float64]
Decided = npt.NDArray[np.bool_]
Merged = tuple[Array, Decided]
Reference = Callable[[Sequence[Array], Array, Mapping[str, Any]], Merged]

_DOUBT = 1e-5
"""Relative distance within which float32 can fall on the other side of a threshold that was itself worked out."""


def _all(values: Array) -> Merged:
    return values, np.ones(values.shape, bool)


def _linear(parents: Sequence[Array], base: Array, given: Mapping[str, Any]) -> Merged:  # noqa: ARG001 - all references
    weighted = sum(w * parent for w, parent in zip(given["weight"], parents, strict=True))
    return _all(np.asarray(weighted / sum(given["weight"])))


def _passthrough(parents: Sequence[Array], base: Array, given: Mapping[str, Any]) -> Merged:  # noqa: ARG001
    return _all(parents[0] * given["scale"])


def _task_arithmetic(parents: Sequence[Array], base: Array, given: Mapping[str, Any]) -> Merged:
    return _all(base + sum(w * (parent - base) for w, parent in zip(given["weight"], parents, strict=True)))


def _elected(terms: Sequence[Array], weights: Sequence[float], *, normalize: bool) -> Merged:
    """The sum of the terms that have the sign of all terms' sum, over the sum of their weights when `normalize`."""
    total = np.asarray(sum(terms))
    sign = np.where(total >= 0, 1.0, -1.0)
    agreeing = [np.sign(term) == sign for term in terms]
    merged = np.asarray(sum(np.where(agrees, term, 0) for agrees, term in zip(agreeing, terms, strict=True)))
    if normalize:
        share = np.asarray(sum(w * agrees for w, agrees in zip(weights, agreeing, strict=True)))
        merged = merged / np.where(share == 0, 1, share)
    magnitude = np.asarray(sum(np.abs(term) for term in terms))
    return merged, (np.abs(total) > _DOUBT * magnitude) | (magnitude == 0)


def _ties(parents: Sequence[Array], base: Array, given: Mapping[str, Any]) -> Merged:
    terms, decided = [], np.ones(base.shape, bool)
    for w, parent in zip(given["weight"], parents, strict=True):
        size = np.abs(parent - base)
        kept = max(1, int(given["density"] * size.size))
        threshold = np.sort(size, axis=None)[size.size - kept]
        decided &= size != threshold
        terms.append(w * np.where(size >= threshold, parent - base, 0))
    merged, clear = _elected(terms, given["weight"], normalize=True)
    return base + merged, decided & clear


def _crumbs(parents: Sequence[Array], base: Array, given: Mapping[str, Any]) -> tuple[list[Array], Decided]:
    terms, decided = [], np.ones(base.shape, bool)
    for w, parent in zip(given["weight"], parents, strict=True):
        size = np.abs(parent - base)
        top, kept = int(given["gamma"] * size.size), int(given["density"] * size.size)
        bottom = max(0, size.size - kept - top)
        low, high = np.sort(size, axis=None)[[bottom, bottom + kept - 1]]
        decided &= (size != low) & (size != high)
        terms.append(w * np.where((size >= low) & (size <= high), parent - base, 0))
    return terms, decided


def _breadcrumbs(parents: Sequence[Array], base: Array, given: Mapping[str, Any]) -> Merged:
    terms, decided = _crumbs(parents, base, given)
    return base + np.asarray(sum(terms)), decided


def _breadcrumbs_ties(parents: Sequence[Array], base: Array, given: Mapping[str, Any]) -> Merged:
    terms, decided = _crumbs(parents, base, given)
    merged, clear = _elected(terms, given["weight"], normalize=False)
    return base + merged, decided & clear


def _sce(parents: Sequence[Array], base: Array, given: Mapping[str, Any]) -> Merged:
    deltas = np.stack([parent - base for parent in parents])
    variance = deltas.var(axis=0)
    kept = int(given["select_topk"] * np.count_nonzero(variance))
    threshold = np.sort(variance, axis=None)[variance.size - kept]
    masked = deltas * (variance >= threshold)
    energy = (masked**2).reshape(len(deltas), -1).mean(axis=1)
    shares = energy / energy.sum() if energy.sum() >= 1e-6 else np.full(len(deltas), 1 / len(deltas))
    sign = np.where(masked.sum(axis=0) >= 0, 1.0, -1.0)
    agreeing = np.sign(masked) == sign
    share = np.tensordot(shares, agreeing, axes=1)
    merged = np.tensordot(shares, np.where(agreeing, masked, 0), axes=1) / np.maximum(share, 1e-6)
    clear = np.abs(masked.sum(axis=0)) > _DOUBT * np.abs(masked).sum(axis=0)
    clear |= (masked == 0).all(axis=0)
    return base + merged, clear & (np.abs(variance - threshold) > _DOUBT * threshold)


def _model_stock(parents: Sequence[Array], base: Array, given: Mapping[str, Any]) -> Merged:  # noqa: ARG001
    deltas = [parent - base for parent in parents]
    count = len(deltas)
    cosines = [_cosine(a, b) for i, a in enumerate(deltas) for b in deltas[:i]]
    cosine = float(np.mean(cosines))
    t = count * cosine / (1 + (count - 1) * cosine)
    return _all(base + t * np.asarray(sum(deltas)) / count)


def _cosine(a: Array, b: Array) -> float:
    return float(np.vdot(a, b) / (np.linalg.norm(a) * np.linalg.norm(b)))


def _arc(a: Array, b: Array, t: float) -> Array:
    """The point at `t` on the arc from a to b, lengths interpolated along."""
    angle = np.arccos(_cosine(a, b))
    return np.asarray((np.sin((1 - t) * angle) * a + np.sin(t * angle) * b) / np.sin(angle))


def _slerp(parents: Sequence[Array], base: Array, given: Mapping[str, Any]) -> Merged:
    straight = abs(_cosine(base, parents[0])) > 0.9995
    return _all((1 - given["t"]) * base + given["t"] * parents[0] if straight else _arc(base, parents[0], given["t"]))


def _nuslerp(parents: Sequence[Array], base: Array, given: Mapping[str, Any]) -> Merged:  # noqa: ARG001
    return _all(_arc(parents[0], parents[1], given["weight"][1] / sum(given["weight"])))


def _multislerp(parents: Sequence[Array], base: Array, given: Mapping[str, Any]) -> Merged:  # noqa: ARG001
    lengths = [np.linalg.norm(parent) for parent in parents]
    units = [parent / length for parent, length in zip(parents, lengths, strict=True)]
    shares = np.asarray(given["weight"]) / sum(given["weight"])
    mean = np.asarray(sum(share * unit for share, unit in zip(shares, units, strict=True)))
    mean /= np.linalg.norm(mean)
    tangent = sum(share * (unit - np.vdot(unit, mean) * mean) for share, unit in zip(shares, units, strict=True))
    size = float(np.linalg.norm(np.asarray(tangent)))
    point = np.cos(size) * mean + (np.sin(size) / size * np.asarray(tangent) if size else 0)
    return _all(point * float(np.dot(shares, lengths)))


def _karcher(parents: Sequence[Array], base: Array, given: Mapping[str, Any]) -> Merged:  # noqa: ARG001
    lengths = [float(np.linalg.norm(parent)) for parent in parents]
    units = [parent / length for parent, length in zip(parents, lengths, strict=True)]
    point = np.asarray(sum(units)) / len(units)
    point /= np.linalg.norm(point)
    for _ in range(10):
        tangent = np.zeros_like(point)
        for unit in units:
            cosine = float(np.clip(np.vdot(unit, point), -1, 1))
            angle = np.arccos(cosine)
            if angle > 1e-12:
                tangent += angle / np.sin(angle) * (unit - cosine * point) / len(units)
        size = float(np.linalg.norm(tangent))
        if size < 1e-5:
            break
        point = np.cos(size) * point + np.sin(size) / size * tangent
        point /= np.linalg.norm(point)
    return _all(point * np.mean(lengths))


def _nearswap(parents: Sequence[Array], base: Array, given: Mapping[str, Any]) -> Merged:
    share = np.clip(given["t"] / np.maximum(np.abs(base - parents[0]), 1e-6), 0, 1)
    return _all(share * parents[0] + (1 - share) * base)


def _arcee_fusion(parents: Sequence[Array], base: Array, given: Mapping[str, Any]) -> Merged:  # noqa: ARG001
    parent = parents[0]
    p, q = (_softmax(rows) + 1e-8 for rows in (parent, base))
    importance = np.abs(parent - base) * (p * np.log(p / q)).sum(axis=-1, keepdims=True)
    low, middle, high = np.quantile(importance, (0.25, 0.5, 0.75), method="lower")
    threshold = middle + 1.5 * (high - low)
    decided = np.abs(importance - threshold) > _DOUBT * threshold
    return np.where(importance >= threshold, parent, base), decided


def _softmax(rows: Array) -> Array:
    powers = np.exp(rows - rows.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))


def _ram(parents: Sequence[Array], base: Array, given: Mapping[str, Any]) -> Merged:
    return _ramplus(parents, base, {**given, "r": 0.0, "alpha": 0.0})


def _ramplus(parents: Sequence[Array], base: Array, given: Mapping[str, Any]) -> Merged:
    deltas = np.stack([parent - base for parent in parents])
    epsilon, r, alpha = (given.get(name, value) for name, value in (("epsilon", 1e-5), ("r", 0.1), ("alpha", 0.2)))
    active = np.abs(deltas) > epsilon
    count = active.sum(axis=0)
    total = np.where(active, deltas, 0)
    merged = total.sum(axis=0) / np.maximum(count, 1)
    for parent, own in enumerate(active):
        unique = own & (count == 1)
        overlap = (own & (count > 1)).sum() / max(unique.sum(), 1)
        merged = np.where(unique, total[parent] * (1 + r * min(overlap, alpha)), merged)
    return base + merged, (np.abs(np.abs(deltas) - epsilon) > _DOUBT * epsilon).all(axis=0)


REFERENCES: dict[str, Reference] = {
    "arcee_fusion": _arcee_fusion,
    "breadcrumbs": _breadcrumbs,
    "breadcrumbs_ties": _breadcrumbs_ties,
    "karcher": _karcher,
    "linear": _linear,
    "model_stock": _model_stock,
    "multislerp": _multislerp,
    "nearswap": _nearswap,
    "nuslerp": _nuslerp,
    "passthrough": _passthrough,
    "ram": _ram,
    "ramplus_tl": _ramplus,
    "sce": _sce,
    "slerp": _slerp,
    "task_arithmetic": _task_arithmetic,
    "ties": _ties,
}
"""By method.  The random ones have none: their masks differ by design."""
