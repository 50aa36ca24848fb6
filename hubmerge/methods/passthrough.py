"""One model, unchanged or scaled: conversion, selection, scaling of tensors by filter."""

from __future__ import annotations

from collections.abc import Sequence

from numpy import float32
from pydantic import Field

from hubmerge.method import Parameters, entrywise, merge_method

__all__ = ["PassthroughParameters", "passthrough"]


class PassthroughParameters(Parameters):
    scale: float = Field(1.0, description="factor for every entry")


@merge_method(
    "passthrough",
    parameters=PassthroughParameters,
    operand="weight",
    parents=(1, 1),
    paper="mergekit's name for a copy",
)
@entrywise
def passthrough(weights: Sequence[float32], scale: float32) -> float32:
    """Hand one model through, every entry times `scale`.

    weights: one float32.  With scale 1 and the same dtype the bytes are those of the parent.
    """
    return weights[0] * scale
