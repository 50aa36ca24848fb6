"""How much a plan reads and how much memory it needs."""

from __future__ import annotations

import math
from collections.abc import Sequence

from hubmerge import brackets
from hubmerge.compute import passes
from hubmerge.errors import PlanError
from hubmerge.gram_kernels import GRAM_BLOCK
from hubmerge.io.workspace import CHUNK
from hubmerge.method import MergeMethod
from hubmerge.methods.task_matrices import is_precise
from hubmerge.plan_types import Operand, Step
from hubmerge.ranges import row_length
from hubmerge.sizes import size_text

__all__ = ["peak_memory", "step_memory", "step_reads"]

_HISTOGRAMS = 8 * ((1 << 16) + (1 << 15))

_SOLVER = 16 << 20
"""What torch's singular value decomposition holds besides its matrices."""


def step_reads(step: Step, method: MergeMethod) -> int:
    """Bytes read for one step, adapters included."""
    factors = sum(meta.nbytes for o in step.read if o.low_rank is not None for meta in o.low_rank.stored)
    factors += sum(_stored_bytes(step, o) for o in step.read if o.low_rank is not None and o.low_rank.magnitude)
    return factors + passes(step, method) * sum(_stored_bytes(step, operand) for operand in step.inputs)


def _stored_bytes(step: Step, operand: Operand) -> int:
    """Bytes read of one input in one pass; of a tensor whose rows are mapped only the rows that the map names."""
    rows = operand.rows
    if rows is None:
        return operand.tensor.nbytes
    columns = step.output.numel // max(1, rows.size)
    fills = sum(fill.operand.tensor.dtype.bits * fill.rows.size for fill in rows.fills)
    return columns * (operand.tensor.dtype.bits * int((rows.own >= 0).sum()) + fills) // 8


def step_memory(step: Step, method: MergeMethod) -> int:
    """Bytes of buffers one worker needs for one step: an upper bound."""
    inputs, method = len(step.inputs), _own(step, method)
    if step.action == "merge" and method.kind == "matrix":
        return step.output.numel * 12 * inputs + _decomposition(step) + _SOLVER
    by_row = method.before is not None and method.before.per == "row"
    group = method.groups(step.values) if step.action == "merge" else None
    group = "row" if group and len(step.output.shape) < 2 else group
    whole = _row_entries(step, group) if by_row or group else 0
    entries = min(max(CHUNK, whole), step.output.numel)
    factors = sum(4 * meta.numel * 2 for o in step.read if o.low_rank is not None for meta in o.low_rank.stored)
    factors += 20 * CHUNK * any(o.low_rank is not None and o.low_rank.magnitude is not None for o in step.read)
    factors += sum(8 * o.tensor.scale.tensor.numel for o in step.read if o.tensor.scale is not None)
    factors += sum(_row_buffers(step, operand) for operand in step.inputs if operand.rows is not None)
    measures = 0
    if method.scope == "tensor":  # whether stage or rule asks for ranks
        measures = inputs * (_HISTOGRAMS + 8 * GRAM_BLOCK)
        measures += brackets.BYTES if step.output.numel >= brackets.FEWEST else 0
    tables = _tables(step, group) if group else 0
    states = inputs * method.before.memory(step.output.numel) if method.before else 0
    return entries * 12 * (inputs + 1) + factors + measures + tables + states


def _decomposition(step: Step) -> int:
    """What a matrix method holds beside the parents and their deltas: iso_cts, which holds the most.

    Found with two parents: 2048 by 2048 in float32 365 to 381 MB, 436 planned in all; 1024 by 1024 in float64 180 MB of 189.
    """
    entries, shape = step.output.numel, step.output.shape
    if len(shape) < 2 or not entries:
        return 0
    short = min(shape[0], entries // shape[0])
    # the deltas one below the other have triangular factors of at most that many times a delta's size
    stacked = min(len(step.operands), entries // short**2)
    wide = 8 if is_precise(shape) else 4
    return wide * (8 * entries + 8 * short**2 + 3 * entries * (stacked - 1))


def _own(step: Step, method: MergeMethod) -> MergeMethod:
    """The method that merges this step's tensor, if any does."""
    return method.of_tensor(step.values) if step.action == "merge" else method


def _row_entries(step: Step, group: str | None) -> int:
    """Entries of a row, which is read whole: along the last dimension, or all that share the first index."""
    shape = step.output.shape
    return math.prod(shape[1:]) if group == "column" else row_length(shape)


def _tables(step: Step, group: str) -> int:
    """What is kept of every row or column while its coefficients are found: inner products, and numbers made of them."""
    parents, columns = len(step.operands), max(1, _row_entries(step, group))
    groups = columns if group == "column" else step.output.numel // columns
    return 8 * groups * (4 * parents**2 + 8 * parents)


def _row_buffers(step: Step, operand: Operand) -> int:
    """Buffers for rows that are brought into another order: those of a chunk and the two that it cuts, and what fills them."""
    rows = operand.rows.size if operand.rows is not None else 0
    columns = step.output.numel // max(1, rows)
    return 12 * min(CHUNK + 2 * columns, step.output.numel)


def peak_memory(steps: Sequence[Step], method: MergeMethod, jobs: int, memory: int) -> tuple[int, int]:
    """How many of `jobs` workers fit into `memory` bytes, and what they need at most.

    Raises `PlanError` when a single worker does not fit.
    """
    largest = max(steps, key=lambda step: step_memory(step, method))
    need = max(1, step_memory(largest, method))  # tensors can be without entries
    if need > memory:
        whole = "a matrix method holds whole tensors; " if _own(largest, method).kind == "matrix" else ""
        raise PlanError(
            f"tensor {largest.output.name!r} needs {size_text(need)} of buffers, --memory allows {size_text(memory)}",
            where="--memory",
            hint=f"{whole}give more --memory",
        )
    workers = max(1, min(jobs, memory // need, len(steps)))
    return int(workers), int(workers * need)
