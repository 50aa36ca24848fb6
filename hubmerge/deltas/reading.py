"""Tensors of a base and its models as float32 numbers, whole or only their sums of squares."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hubmerge.io.input_files import InputFiles
from hubmerge.io.reader import StepReader
from hubmerge.io.stored import singles
from hubmerge.io.workspace import Workspace
from hubmerge.plan_types import Step
from hubmerge.ranges import spans

__all__ = ["sum_of_squares", "sums_of_squares", "whole_tensors"]

Floats = npt.NDArray[np.float32]


def whole_tensors(step: Step, files: InputFiles) -> tuple[Floats, ...]:
    """The tensor of every input of a step, the base's first, in the base's shape, with what adapters add to it."""
    reader = StepReader(step, files, Workspace())
    found = tuple(np.empty(step.output.numel, np.float32) for _ in step.inputs)
    for first, last in spans(0, step.output.numel):
        for out, chunk in zip(found, reader.read(first, last), strict=True):
            out[first:last] = singles(chunk)
    return tuple(out.reshape(step.output.shape) for out in found)


def sums_of_squares(step: Step, files: InputFiles) -> tuple[float, float]:
    """Of one model's delta and of the base's tensor, read a block at a time."""
    reader = StepReader(step, files, Workspace())
    delta = base = 0.0
    for first, last in spans(0, step.output.numel):
        origin, tuned = (singles(chunk) for chunk in reader.read(first, last))
        delta += sum_of_squares(tuned - origin)
        base += sum_of_squares(origin)
    return delta, base


def sum_of_squares(values: Floats) -> float:
    """In float64, without a copy of all of it."""
    flat = values.reshape(-1)
    return sum(float(np.square(flat[low:high], dtype=np.float64).sum()) for low, high in spans(0, flat.size))
