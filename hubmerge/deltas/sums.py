"""The running sums that all measures between deltas are made of, from one streamed pass over a base and its models."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hubmerge.deltas.beside import Beside
from hubmerge.errors import NumbersError
from hubmerge.gram_kernels import GRAM_BLOCK, gram_kernel
from hubmerge.io.input_files import InputFiles
from hubmerge.io.reader import StepReader
from hubmerge.io.stored import singles
from hubmerge.io.workspace import Workspace
from hubmerge.plan_types import Step
from hubmerge.ranges import block_reads, spans

__all__ = ["TensorSums", "sums_of"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class TensorSums:
    """One tensor of N models beside their base's.

    gram: float64 (N, N), the inner products of their deltas.  sums: float64 (N,), the sums of the deltas' entries.  base: the sum of
    squares of the base's entries, NaN where the base is not known.  entries: how many there are.
    """

    name: str
    entries: int
    gram: Floats
    sums: Floats
    base: float


def sums_of(models: Beside, jobs: int) -> tuple[TensorSums, ...]:
    """The sums of every tensor, read once.  Raises `NumbersError` for a tensor with a number that is not finite.

    Deltas are float32, products and sums float64 in a fixed order of additions: the same whatever `jobs` is.
    """
    gram_kernel("weight")  # compiled by one thread
    with models.files() as files, ThreadPoolExecutor(jobs) as pool:
        found = tuple(pool.map(lambda step: _sums(step, files), models.steps))
    for step, sums in zip(models.steps, found, strict=True):
        _check(step, sums, models)
    return found


def _sums(step: Step, files: InputFiles) -> TensorSums:
    """Two operands more than models give all sums at once: the base's entries, and ones."""
    reader, count = StepReader(step, files, Workspace()), len(step.operands)
    gram, run = np.zeros((count + 2, count + 2)), gram_kernel("weight")
    ones = np.ones(GRAM_BLOCK, np.float32)
    for first, last in block_reads(step.output.numel):
        chunks = reader.read(first, last)
        for low, high in spans(0, last - first, GRAM_BLOCK):
            base, *others = (singles(chunk[low:high]) for chunk in chunks)
            operands = (*(other - base for other in others), base, ones[: high - low])
            bits = tuple(np.ascontiguousarray(operand).view(np.uint32) for operand in operands)
            run(bits[0], bits, gram)
    return TensorSums(
        step.output.name,
        step.output.numel,
        gram[:count, :count].copy(),
        gram[:count, -1].copy(),
        float(gram[count, count]),
    )


def _check(step: Step, sums: TensorSums, models: Beside) -> None:
    hint = "the model is damaged; fetch or save it again"
    what = f"tensor {step.output.name!r} has a number that is not finite"
    if not np.isfinite(sums.base):
        raise NumbersError(what, where=str(models.base.reference), hint=hint)
    for place, name in enumerate(models.names):
        if not np.isfinite(sums.gram[place, place]):
            raise NumbersError(what, where=name, hint=hint)
