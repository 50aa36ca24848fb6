"""Whole tensors of a base and its models, as float32 numbers."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hubmerge.io.reader import InputFiles, StepReader, Workspace, singles
from hubmerge.plan_types import Step
from hubmerge.ranges import spans

__all__ = ["whole_tensors"]


def whole_tensors(step: Step, files: InputFiles) -> tuple[npt.NDArray[np.float32], ...]:
    """The tensor of every input of a step, the base's first, in the base's shape, with what adapters add to it."""
    reader = StepReader(step, files, Workspace())
    found = tuple(np.empty(step.output.numel, np.float32) for _ in step.inputs)
    for first, last in spans(0, step.output.numel):
        for out, chunk in zip(found, reader.read(first, last), strict=True):
            out[first:last] = singles(chunk)
    return tuple(out.reshape(step.output.shape) for out in found)
