"""PEFT's ways of combining adapters (`LoraModel.add_weighted_adapter`), with PEFT's numbers.

Those that are not ``cat`` or end in ``svd`` work on A and on B apart: the product of two sums has terms of one adapter's B with
another's A, which nobody trained.  Their dropped entries are other than PEFT's, which draws them from torch's global generator.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hubmerge.lora.stacks import Stack

__all__ = ["combined"]

Floats = NDArray[np.float64]


def combined(
    name: str,
    stack: Stack,
    weights: Sequence[float],
    density: float,
    majority: Literal["total", "frequency"],
    seed: int,
) -> tuple[Floats, Floats]:
    """One module's merged factors, (out, rank) and (rank, in).

    weights: of every adapter, also of those that leave the module alone.  A combination by ``svd`` is not cut here: rank is then that of
    the sum, or the smaller side of the dense change.
    """
    chosen = [
        (place, part, weight) for place, (part, weight) in enumerate(zip(stack.parts, weights, strict=True)) if part
    ]
    if name in {"cat", "svd"}:
        b = np.concatenate([part.b.astype(np.float64) for _, part, _ in chosen], axis=1)
        a = np.concatenate([weight * part.scale * part.a.astype(np.float64) for _, part, weight in chosen])
        return b, a
    rule, places = name.removesuffix("_svd"), [place for place, _, _ in chosen]
    key = (seed, zlib.crc32(stack.module.encode()))
    if name.endswith("_svd"):
        dense = [part.scale * part.b.astype(np.float64) @ part.a.astype(np.float64) for _, part, _ in chosen]
        own = [weight for _, _, weight in chosen]
        change = _by_rule(rule, dense, own, density, majority, [(*key, place) for place in places])
        u, values, v = np.linalg.svd(change, full_matrices=False)
        return u * values, v
    scaled = [weight * part.scale for _, part, weight in chosen]
    roots = [math.sqrt(abs(weight)) for weight in scaled]
    signed = [math.copysign(root, weight) for root, weight in zip(roots, scaled, strict=True)]
    second = [part.b.astype(np.float64) for _, part, _ in chosen]
    first = [part.a.astype(np.float64) for _, part, _ in chosen]
    return (
        _by_rule(rule, second, roots, density, majority, [(*key, place, 1) for place in places]),
        _by_rule(rule, first, signed, density, majority, [(*key, place, 0) for place in places]),
    )


def _by_rule(
    rule: str,
    values: Sequence[Floats],
    weights: Sequence[float],
    density: float,
    majority: str,
    keys: Sequence[tuple[int, ...]],
) -> Floats:
    thin = _largest if rule in {"ties", "magnitude_prune"} else _drawn
    kept = (
        list(values)
        if rule == "linear" or density >= 1
        else [thin(each, density, key) for each, key in zip(values, keys, strict=True)]
    )
    stacked = np.stack(kept)
    weighted = stacked * np.asarray(weights).reshape(-1, 1, 1)
    if rule not in {"ties", "dare_ties"}:
        return np.asarray(weighted.sum(0))
    elected = np.sign(stacked).sum(0) if majority == "frequency" else stacked.sum(0)
    agree = np.sign(stacked) == np.where(elected >= 0, 1.0, -1.0)
    return np.asarray((weighted * agree).sum(0) / np.maximum(agree.sum(0), 1))


def _largest(values: Floats, density: float, _key: tuple[int, ...]) -> Floats:
    """The entries of the largest magnitude, ``int(density * number)`` of them; the others are 0."""
    count = int(density * values.size)
    kept = np.zeros(values.size)
    if count:
        chosen = np.argpartition(np.abs(values).ravel(), values.size - count)[values.size - count :]
        kept[chosen] = values.ravel()[chosen]
    return kept.reshape(values.shape)


def _drawn(values: Floats, density: float, key: tuple[int, ...]) -> Floats:
    """Every entry with probability `density`, then divided by it."""
    there = np.random.default_rng(key).random(values.shape) < density
    return np.where(there, values / density, 0.0) if density else np.zeros(values.shape)
