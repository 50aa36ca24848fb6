"""A plan run once more against the weights on disk: whether every tensor is what its parents give, and how far off the worst is."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hubmerge.errors import VerifyError
from hubmerge.execute import execute
from hubmerge.io.input_files import InputFiles, read_at
from hubmerge.io.stored import NUMPY, singles
from hubmerge.plan_types import Plan, Step
from zoo_index.tensors import DType

__all__ = ["LEAST_DIFFERENCE", "rederive"]

LEAST_DIFFERENCE = sys.float_info.min
"""Of numbers that are the same in other bytes, as 0 and -0 are: 0 stands for the same bytes."""

_TOLERANCE = {DType.F64: 1e-5, DType.F32: 1e-5, DType.F16: 2**-9, DType.BF16: 2**-6}
"""Relative to the largest magnitude of a tensor: what another BLAS may change."""


def rederive(
    plan: Plan, folder: Path, *, exact: bool, inputs: InputFiles | None = None, without: Collection[str] = ()
) -> float:
    """Run the plan against the bytes on disk; returns the worst relative difference, 0 for the same bytes.

    Raises `VerifyError` at the first tensor that differs.

    inputs: where the parents' numbers are, default the files that the plan names.  without: tensors that are not compared.
    """
    descriptors = {name: os.open(folder / name, os.O_RDONLY | getattr(os, "O_BINARY", 0)) for name in plan.layout.sizes}
    worst = [0.0]
    try:
        compared = replace(plan, steps=tuple(step for step in plan.steps if step.output.name not in without))
        execute(compared, _comparer(descriptors, worst, exact=exact), inputs=inputs)
    finally:
        for descriptor in descriptors.values():
            os.close(descriptor)
    return worst[0]


def _comparer(
    descriptors: dict[str, int], worst: list[float], *, exact: bool
) -> Callable[[Step, int, npt.NDArray[Any]], None]:
    def compare(step: Step, first: int, entries: npt.NDArray[Any]) -> None:
        output = step.output
        stored = np.empty(entries.size, NUMPY[output.dtype])
        view, done = stored.view(np.uint8).data, 0
        while done < len(view):  # the system reads at most 2 GiB at a time
            place = output.start + first * entries.itemsize + done
            if (count := read_at(descriptors[output.file], view[done:], place)) == 0:
                raise VerifyError(f"{output.file} became shorter", where=output.name, hint="verify again")
            done += count
        if np.array_equal(stored.view(np.uint8), entries.view(np.uint8)):
            return
        if exact or not output.dtype.is_float:
            raise VerifyError(
                f"tensor {output.name!r} differs from what its parents give", where=output.file, hint="merge again"
            )
        a, b = (_as_float(values, output.dtype) for values in (stored, entries))
        difference = float(np.abs(a - b).max() / max(float(np.abs(b).max()), 1e-30))
        worst[0] = max(worst[0], difference, LEAST_DIFFERENCE)
        if not difference <= _TOLERANCE[output.dtype]:  # a number that is not finite is beyond it, too
            raise VerifyError(
                f"tensor {output.name!r} differs by {difference:.1e} from what its parents give",
                where=output.file,
                hint="merge again",
            )

    return compare


def _as_float(values: npt.NDArray[Any], dtype: DType) -> npt.NDArray[Any]:
    return singles(values) if dtype is DType.BF16 else values.astype(np.float64)
