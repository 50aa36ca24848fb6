"""Nearswap: take the other model's entry where it is near the base model's."""

from __future__ import annotations

from collections.abc import Sequence

from numpy import float32
from pydantic import Field

from hubmerge.method import Parameters, entrywise, merge_method

__all__ = ["NearswapParameters", "nearswap"]


class NearswapParameters(Parameters):
    t: float = Field(ge=0, description="entries that differ by at most this become the other model's")


@merge_method(
    "nearswap",
    parameters=NearswapParameters,
    operand="weight",
    base="start",
    parents=(2, 2),
    paper="alchemonaut 2024, QuartetAnemoi-70B-t0.0001, https://huggingface.co/alchemonaut/QuartetAnemoi-70B-t0.0001",
)
@entrywise
def nearswap(weights: Sequence[float32], t: float32) -> float32:
    """Move the base model's entries to the other model's where they are near, by at most `t` everywhere else.

    weights: the base's entry a and the other's, b.  Returns k b + (1 - k) a with k = t / max(|a - b|, 1e-6), at most 1;
    so b where they differ by at most t, and where they differ by less than 1e-6 the share t / 1e-6 of the way.
    """
    a, b = weights
    k = min(t / max(abs(a - b), float32(1e-6)), float32(1))
    return k * b + (float32(1) - k) * a
