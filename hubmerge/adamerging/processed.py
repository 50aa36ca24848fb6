"""What each parent alone adds to the base under a method that adds its parents: computed by the method itself, one parent at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from hubmerge.compute import compute
from hubmerge.io.input_files import InputFiles
from hubmerge.io.workspace import Workspace
from hubmerge.plan_types import Plan, Step
from hubmerge.staged import Known
from zoo_index.tensors import DType

__all__ = ["merged_with"]


def merged_with(
    plan: Plan, inputs: InputFiles, known: Known, coefficients: tuple[float, ...]
) -> Iterator[tuple[Step, npt.NDArray[np.float32]]]:
    """Every tensor of floating-point numbers as `plan` merges it, every parent's weight times its coefficient; float32, of the tensor's shape.

    With all coefficients 0 that is the base.
    """
    workspace = Workspace()
    for step in plan.steps:
        if step.action not in {"merge", "average"} or not step.output.numel:
            continue
        found = np.empty(step.output.numel, np.float32)

        def emit(first: int, entries: npt.NDArray[np.float32], found: npt.NDArray[np.float32] = found) -> None:
            found[first : first + entries.size] = entries

        compute(_in_singles(step, coefficients), plan.method, inputs, workspace, emit, known=known)
        yield step, found.reshape(step.output.shape)


def _in_singles(step: Step, coefficients: tuple[float, ...]) -> Step:
    output = replace(step.output, dtype=DType.F32, end=step.output.start + 4 * step.output.numel)
    if step.action != "merge":
        return replace(step, output=output)
    weight = tuple(w * c for w, c in zip(step.values["weight"], coefficients, strict=True))
    return replace(step, output=output, values={**step.values, "weight": weight})
