"""One step of a plan, from inputs to numbers, chunk by chunk."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hubmerge import kernels
from hubmerge.compiled_files import Target
from hubmerge.device import brought, on_device, taken_back
from hubmerge.errors import NumbersError
from hubmerge.io.input_files import InputFiles
from hubmerge.io.reader import StepReader
from hubmerge.io.rows import own_entries
from hubmerge.io.stored import NUMPY, singles
from hubmerge.io.workspace import CHUNK, Workspace
from hubmerge.measure import TensorMeasure
from hubmerge.merge_pass import MergePass, merge_pass
from hubmerge.method import MergeMethod, get_method
from hubmerge.plan_types import Operand, Step
from hubmerge.pools import pool_name
from hubmerge.ranges import spans
from hubmerge.staged import NOTHING_KNOWN, Known, Staged
from hubmerge.torch_threads import one_torch_thread
from zoo_index.tensors import DType

__all__ = ["AT_ONCE", "Emit", "Output", "compute", "passes"]

Array = npt.NDArray[Any]
Emit = Callable[[int, Array], None]
"""Takes the index of the first entry and the entries as stored (`hubmerge.io.stored.NUMPY`); must use them at once."""

AT_ONCE = 8 * CHUNK
"""Entries that are written by one call: between two calls the work can be stopped."""


@dataclass(frozen=True)
class Output:
    """A file that a step's entries may be written into, and who is told of the bytes that were."""

    target: Target
    written: Callable[[int], None]


_CAN_OVERFLOW = {DType.F16: 0x47000000, DType.BF16: 0x7F000000}
"""Exponent bits of float32 from which on rounding to a narrower type can give infinity (2^15 and 2^127)."""


def passes(step: Step, method: MergeMethod) -> int:
    """How often each input of `step` is read."""
    return method.of_tensor(step.values).reads(step.values) if step.action == "merge" else 1


def compute(
    step: Step,
    method: MergeMethod,
    files: InputFiles,
    workspace: Workspace,
    emit: Emit,
    start: int = 0,
    stop: int | None = None,
    known: Known = NOTHING_KNOWN,
    device: str = "cpu",
    output: Output | None = None,
) -> None:
    """Compute entries `start` to `stop` of a step's output and hand them to `emit`, in order.

    known: the recipe's seed and what was found for pools of tensors (`hubmerge.prologue.known_of`).
    device: the torch device of matrix methods (`hubmerge.device`).
    output: where entries may be written without being handed over.
    Raises `NumbersError` for a number that is not finite, naming tensor and parent, and for buffers that differ.
    """
    end = step.output.numel if stop is None else stop
    if start == end:
        return
    reader = StepReader(step, files, workspace)
    if step.action == "count":
        _largest(reader, emit)
    elif step.action == "copy":
        _copy(reader, emit, start, end)
    elif step.action == "average":
        _stream(reader, get_method("linear"), emit, start, end, known, output)
    elif (own := method.of_tensor(step.values)).kind == "matrix":
        with one_torch_thread():
            _whole(reader, own, emit, device)
    else:
        _stream(reader, own, emit, start, end, known, output)


def _stream(
    reader: StepReader, method: MergeMethod, emit: Emit, start: int, stop: int, known: Known, output: Output | None
) -> None:
    """Run an entrywise method's compiled pass over the entries; after a measure from the last to the first, as they are at hand."""
    with reader.kept_between_passes():
        staged, arguments = _prepare(reader, method, known)
    merge = merge_pass(reader, method, staged, arguments)
    if output is None or merge.write is None:
        reader.let_go()
        _emit_merged(reader, merge, emit, start, stop)
        return
    dtype = reader.step.output.dtype
    measured = method.before is not None or method.measure is not None
    ranges = list(spans(start, stop, AT_ONCE))
    for low, high in reversed(ranges) if measured else ranges:
        worst = merge.write(output.target, low, high)
        if worst < _CAN_OVERFLOW.get(dtype, kernels.NOT_FINITE):
            output.written((high - low) * dtype.bits // 8)
        else:
            _emit_again(reader, merge, emit, start, low, high)
    reader.let_go()


def _emit_again(reader: StepReader, merge: MergePass, emit: Emit, start: int, low: int, high: int) -> None:
    """Emit entries `low` to `high`, or say what is wrong: of what is wrong between `start` and `high` the first."""
    try:
        _emit_merged(reader, merge, emit, low, high)
    except NumbersError:
        _emit_merged(reader, merge, lambda _first, _entries: None, start, low)
        raise


def _emit_merged(reader: StepReader, merge: MergePass, emit: Emit, start: int, stop: int) -> None:
    step = reader.step
    bits, width = ("<u2", 2) if step.output.dtype is DType.BF16 else ("<u4", 4)
    for low, high in merge.ranges(start, stop):
        out = reader.workspace.take("out", bits, high - low, step.output.start + low * width)
        worst = merge.run(out, low)
        if worst == kernels.NOT_FINITE:
            raise _not_finite_between(reader, low, high)
        first, last = max(low, start), min(high, stop)
        if first < last:
            stored = _stored(out, step.output.dtype)[first - low : last - low]
            if worst >= _CAN_OVERFLOW.get(step.output.dtype, kernels.NOT_FINITE):
                _refuse_overflow(stored, step, first)
            emit(first, stored)


def _prepare(reader: StepReader, method: MergeMethod, known: Known) -> tuple[Staged | None, tuple[Any, ...]]:
    """What the kernel takes beside the chunks: the stage with its state of every parent, and the rule's arguments."""
    values: dict[str, Any] = dict(reader.step.values)
    staged = None
    pool = pool_name(reader.step, method)
    found = None if pool is None else known.pools[pool]
    if method.before is not None:
        measure = TensorMeasure(reader, known=known, pooled=found, choice=method.before.choice)
        states = tuple(method.before.measure(measure, values))
        staged = Staged(method.before, states, measure.marks)
    if method.measure is not None:
        measure = TensorMeasure(reader, staged=staged, known=known, pooled=found)
        try:
            with np.errstate(all="ignore"):  # of what is not finite: the pass that merges says where it is
                values |= method.measure(measure, values)
        except NumbersError as error:
            raise NumbersError(error.message, where=reader.step.output.name, hint=error.hint) from error
    return staged, tuple(_typed(values[name]) for name in method.arguments)


def _typed(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(_typed(item) for item in value)
    return np.float32(value) if isinstance(value, float) else value


def _stored(out: Array, dtype: DType) -> Array:
    """The merged bit patterns (of bfloat16 where that is the output's type, else of float32) as they are stored."""
    if dtype is DType.BF16:
        return out
    single = out.view("<f4")
    with np.errstate(over="ignore"):  # `_refuse_overflow` names the entry
        return single if dtype is DType.F32 else single.astype(NUMPY[dtype])


def _refuse_overflow(stored: Array, step: Step, low: int) -> None:
    dtype = step.output.dtype
    wrong = np.flatnonzero(~np.isfinite(_numbers(stored, dtype)))
    if wrong.size:
        raise NumbersError(
            f"entry {low + int(wrong[0])} of tensor {step.output.name!r} does not fit into {dtype.torch_name}",
            where=step.output.name,
            hint=f"choose dtype: {'float32' if dtype is DType.BF16 else 'bfloat16 or float32'}",
        )


def _numbers(stored: Array, dtype: DType) -> Array:
    """Stored entries as numbers numpy can test."""
    return singles(stored) if dtype is DType.BF16 else stored


def _not_finite_between(reader: StepReader, low: int, high: int) -> NumbersError:
    """The error for entries `low` to `high` of a step, of which one is not finite: what was read is read once more."""
    for first, last in spans(low, high):
        chunks = reader.read(first, last)
        if not all(np.isfinite(singles(chunk)).all() for chunk in chunks):
            return _not_finite(reader, chunks, first)
    return _not_finite(reader, (), low)


def _not_finite(reader: StepReader, chunks: tuple[Array, ...], low: int) -> NumbersError:
    """The error for a chunk with a number that is not finite: which parent brought it, or that the merge made it."""
    step = reader.step
    for operand, chunk in zip(step.inputs, chunks, strict=False):
        _refuse_damaged(reader.files, operand, singles(chunk), low, step.output.numel)
    for operand, chunk in zip(step.inputs, chunks, strict=False):
        if not np.isfinite(singles(chunk)).all():
            fills = ", ".join(reader.files.name(fill.operand) for fill in operand.rows.fills) if operand.rows else ""
            return NumbersError(
                f"tensor {step.output.name!r}: a row that {reader.files.name(operand)} lacks is filled with one that is not finite",
                where=step.output.name,
                hint=f"one of these is damaged: {fills}",
            )
    return NumbersError(
        f"tensor {step.output.name!r} overflows when it is merged, though every parent is finite",
        where=step.output.name,
        hint="the coefficients are too large; `hubmerge plan` shows them",
    )


def _refuse_damaged(files: InputFiles, operand: Operand, numbers: Array, low: int, size: int = 0) -> None:
    """Raise when `numbers`, entries of an operand from `low` on, are not all finite; size: entries of the output."""
    wrong = np.flatnonzero(~np.isfinite(numbers))
    places = wrong + low
    if operand.rows is not None:  # a row that fills one that is lacking is for its own model to answer for
        places = own_entries(operand.rows, size // operand.rows.size, places)
        wrong, places = wrong[places >= 0], places[places >= 0]
    if wrong.size:
        raise NumbersError(
            f"tensor {operand.tensor.name!r} of {files.name(operand)} is not finite: entry {places[0]} is {numbers[wrong[0]]}",
            where=str(files.path(operand.parent, operand.tensor.file, operand.in_adapter)),
            hint="this parent is damaged",
        )


def _largest(reader: StepReader, emit: Emit) -> None:
    step = reader.step
    emit(0, np.maximum.reduce([reader.raw(o, 0, step.output.numel, slot) for slot, o in enumerate(step.operands)]))


def _copy(reader: StepReader, emit: Emit, start: int, stop: int) -> None:
    """Hand the first parent's bytes through; the others must have the same."""
    step, files = reader.step, reader.files
    first, *others = step.operands
    dtype = first.tensor.dtype
    for low, high in spans(start, stop):
        chunk = reader.raw(first, low, high)
        if dtype.is_float:
            _refuse_damaged(files, first, _numbers(chunk, dtype), low)
        for other in others:
            if not np.array_equal(chunk.view(np.uint8), reader.raw(other, low, high, slot=1).view(np.uint8)):
                raise NumbersError(
                    f"tensor {step.output.name!r} holds {dtype.value} numbers that differ between {files.name(first)} and {files.name(other)}",
                    where=step.output.name,
                    hint="such tensors cannot be averaged; make them equal, or leave one of the models out",
                )
        emit(low, chunk)


def _whole(reader: StepReader, method: MergeMethod, emit: Emit, device: str) -> None:
    """Run a matrix method on whole float32 tensors, on a torch device."""
    step = reader.step
    chunks = reader.read(0, step.output.numel)
    with on_device(device, step.output.name):
        tensors = [brought(chunk, step.output.shape, device) for chunk in chunks]
        if not all(map(_is_finite, tensors)):
            raise _not_finite(reader, chunks, 0)
        if step.base:
            base, *parents = tensors
            deltas = [parent - base for parent in parents]
            if not all(map(_is_finite, deltas)):
                raise _not_finite(reader, (), 0)
            merged = base + method.rule(deltas, base, *_matrix_arguments(step, method))
        else:
            merged = method.rule(tensors, None, *_matrix_arguments(step, method))
        if not _is_finite(merged):
            raise _not_finite(reader, (), 0)
        stored = _stored(taken_back(merged, brief=step.output.dtype is DType.BF16), step.output.dtype)
    _refuse_overflow(stored, step, 0)
    emit(0, stored)


def _is_finite(tensor: Any) -> bool:
    return bool(tensor.isfinite().all())


def _matrix_arguments(step: Step, method: MergeMethod) -> tuple[Any, ...]:
    return tuple(step.values[name] for name in method.arguments)
