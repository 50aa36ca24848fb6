"""One step of a plan, from inputs to numbers: the passes it needs, chunk by chunk.

`measure` makes the passes over the whole tensor that a method asks for; `compute` hands out merged chunks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hubmerge import kernels
from hubmerge.errors import MergeError
from hubmerge.io.reader import CHUNK, NUMPY, InputFiles, StepReader, Workspace
from hubmerge.method import MergeMethod, get_method
from hubmerge.plan_types import Operand, Step
from zoo_index.tensors import DType

__all__ = ["Emit", "compute", "passes"]

Array = npt.NDArray[Any]
Emit = Callable[[int, Array], None]
"""Takes the index of the first entry and the entries as stored (`hubmerge.io.reader.NUMPY`); must use them at once."""


def passes(step: Step, method: MergeMethod) -> int:
    """How often each input of `step` is read."""
    if step.action != "merge" or method.kind == "matrix":
        return 1
    return 1 + (2 if method.before else 0) + (1 if method.reduce else 0)


def compute(
    step: Step,
    method: MergeMethod,
    files: InputFiles,
    workspace: Workspace,
    emit: Emit,
    start: int = 0,
    stop: int | None = None,
) -> None:
    """Compute entries `start` to `stop` of a step's output and hand them to `emit`, in order.

    Raises `MergeError` for a number that is not finite, naming tensor and parent, and for buffers that differ.
    """
    stop = step.output.numel if stop is None else stop
    reader = StepReader(step, files, workspace)
    if step.action == "count":
        _largest(step, reader, emit)
    elif step.action == "copy":
        _copy(step, reader, files, emit, start, stop)
    elif step.action == "merge" and method.kind == "matrix":
        _whole(step, method, reader, files, emit)
    else:
        used = method if step.action == "merge" else get_method("linear")
        _stream(step, used, reader, files, workspace, emit, start, stop)


def _spans(start: int, stop: int, size: int = CHUNK) -> Iterator[tuple[int, int]]:
    for low in range(start, stop, size):
        yield low, min(low + size, stop)


@dataclass(frozen=True)
class _Prepared:
    """What the kernel takes beside the chunks."""

    state: tuple[tuple[np.float32, ...], ...]
    arguments: tuple[Any, ...]


def _prepare(step: Step, method: MergeMethod, reader: StepReader) -> _Prepared:
    state: tuple[tuple[np.float32, ...], ...] = ((np.float32(0),),) * len(step.operands)
    values: dict[str, Any] = dict(step.values)
    if method.before is not None:
        state = tuple((threshold,) for threshold in _magnitudes(step, reader, values[method.before.parameter]))
    if method.reduce is not None:
        values |= method.reduce.arguments(_gram(step, method, reader), values)
    return _Prepared(state, tuple(_typed(values[name]) for name in method.arguments))


def _typed(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(_typed(item) for item in value)
    return np.float32(value) if isinstance(value, float) else value


def _stream(
    step: Step,
    method: MergeMethod,
    reader: StepReader,
    files: InputFiles,
    workspace: Workspace,
    emit: Emit,
    start: int,
    stop: int,
) -> None:
    prepared = _prepare(step, method, reader)
    run = kernels.merge_kernel(method.rule, method.operand, method.before)
    entry = (np.float32(0),) * len(step.operands)
    dtype = step.output.dtype
    bits = "<u2" if dtype is DType.BF16 else "<u4"
    for low, high in _spans(start, stop):
        chunks = reader.read(low, high)
        parents = chunks[1:] if step.base else chunks
        out = workspace.take("out", bits, high - low)
        worst = run(chunks[0], parents, entry, prepared.state, prepared.arguments, out, low)
        if worst == kernels.NOT_FINITE:
            raise _not_finite(step, files, chunks, low)
        emit(low, _stored(out, step, low))


def _stored(out: Array, step: Step, low: int) -> Array:
    """The merged bit patterns in the output's own type."""
    dtype = step.output.dtype
    if dtype is DType.BF16:
        return out
    single = out.view("<f4")
    if dtype is DType.F32:
        return single
    with np.errstate(over="ignore"):
        stored = single.astype(NUMPY[dtype])
    if not np.isfinite(stored).all():
        place = low + int(np.flatnonzero(~np.isfinite(stored))[0])
        raise MergeError(
            f"entry {place} of tensor {step.output.name!r} does not fit into {dtype.torch_name}",
            where=step.output.name,
            hint="choose dtype: bfloat16 or float32",
        )
    return stored


def _singles(bits: Array) -> Array:
    if bits.dtype == np.uint16:
        return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return bits.view(np.float32)


def _not_finite(step: Step, files: InputFiles, chunks: tuple[Array, ...], low: int) -> MergeError:
    for operand, chunk in zip(step.inputs, chunks, strict=True):
        wrong = np.flatnonzero(~np.isfinite(_singles(chunk)))
        if wrong.size:
            return _damaged(operand, files, low + int(wrong[0]), float(_singles(chunk)[wrong[0]]))
    return MergeError(
        f"tensor {step.output.name!r} overflows when it is merged, though every parent is finite",
        where=step.output.name,
        hint="the coefficients are too large; see `hubmerge plan`",
    )


def _damaged(operand: Operand, files: InputFiles, entry: int, value: float) -> MergeError:
    return MergeError(
        f"tensor {operand.tensor.name!r} of {files.name(operand)} is not finite: entry {entry} is {value}",
        where=str(files.path(operand.parent, operand.tensor.file, operand.in_adapter)),
        hint="this parent is damaged; nothing was written",
    )


def _magnitudes(step: Step, reader: StepReader, densities: tuple[float, ...]) -> tuple[np.float32, ...]:
    """For every parent the exact k-th largest magnitude of its delta, k = max(1, int(density * entries))."""
    count, parents = step.output.numel, len(step.operands)
    kept = [max(1, int(density * count)) for density in densities]
    if all(k >= count for k in kept) or count == 0:
        return (np.float32(0),) * parents
    high = np.zeros((parents, 1 << 16), np.int64)
    low = np.zeros((parents, 1 << 15), np.int64)
    for first, last in _spans(0, count):
        chunks = reader.read(first, last)
        kernels.high_magnitudes_kernel()(chunks[0], chunks[1:], high)
    bins, rest = zip(*(_bin_of(high[p], k) for p, k in enumerate(kept)), strict=True)
    upper = np.array(bins, np.uint32)
    for first, last in _spans(0, count):
        chunks = reader.read(first, last)
        kernels.low_magnitudes_kernel()(chunks[0], chunks[1:], upper, low)
    lower = [_bin_of(low[p], k)[0] for p, k in enumerate(rest)]
    bits = (upper << np.uint32(15)) | np.array(lower, np.uint32)
    thresholds = bits.view(np.float32)
    return tuple(np.float32(0) if k >= count else t for k, t in zip(kept, thresholds, strict=True))


def _bin_of(counts: Array, k: int) -> tuple[int, int]:
    """The bin that holds the k-th largest, and which of that bin's members it is, counted from the largest."""
    above = np.cumsum(counts[::-1])
    position = int(np.searchsorted(above, k))
    before = int(above[position - 1]) if position else 0
    return len(counts) - 1 - position, k - before


def _gram(step: Step, method: MergeMethod, reader: StepReader) -> Array:
    """Inner products of the parents' operands in float64; the order of additions depends on nothing but the tensor."""
    parents = len(step.operands)
    gram = np.zeros((parents, parents))
    scratch = np.empty((parents, kernels.GRAM_BLOCK))
    run = kernels.gram_kernel(method.operand)
    for first, last in _spans(0, step.output.numel):
        chunks = reader.read(first, last)
        for low, high in _spans(0, last - first, kernels.GRAM_BLOCK):
            block = tuple(chunk[low:high] for chunk in chunks)
            run(block[0], block[1:] if step.base else block, scratch, gram)
    return gram


def _largest(step: Step, reader: StepReader, emit: Emit) -> None:
    values = [reader.raw(operand, 0, step.output.numel, slot) for slot, operand in enumerate(step.operands)]
    emit(0, np.maximum.reduce(values))


def _copy(step: Step, reader: StepReader, files: InputFiles, emit: Emit, start: int, stop: int) -> None:
    first, *others = step.operands
    for low, high in _spans(start, stop):
        chunk = reader.raw(first, low, high)
        if first.tensor.dtype.is_float:
            numbers = _singles(chunk) if first.tensor.dtype is DType.BF16 else chunk
            wrong = np.flatnonzero(~np.isfinite(numbers))
            if wrong.size:
                raise _damaged(first, files, low + int(wrong[0]), float(numbers[wrong[0]]))
        for other in others:
            if not np.array_equal(chunk, reader.raw(other, low, high, slot=1)):
                raise MergeError(
                    f"tensor {step.output.name!r} holds {step.output.dtype.value} numbers that differ between {files.name(first)} and {files.name(other)}",
                    where=step.output.name,
                    hint="such tensors cannot be averaged; make them equal, or leave one of the models out",
                )
        emit(low, chunk)


def _whole(step: Step, method: MergeMethod, reader: StepReader, files: InputFiles, emit: Emit) -> None:
    import torch

    chunks = reader.read(0, step.output.numel)
    for operand, chunk in zip(step.inputs, chunks, strict=True):
        wrong = np.flatnonzero(~np.isfinite(_singles(chunk)))
        if wrong.size:
            raise _damaged(operand, files, int(wrong[0]), float(_singles(chunk)[wrong[0]]))
    tensors = [torch.from_numpy(_singles(chunk).copy()).reshape(step.output.shape) for chunk in chunks]
    base = tensors[0] if step.base else None
    operands = [tensor - base for tensor in tensors[1:]] if base is not None and method.operand == "delta" else tensors
    merged = method.rule(operands, base, *(step.values[name] for name in method.arguments))
    if base is not None and method.operand == "delta":
        merged = base + merged
    if not bool(torch.isfinite(merged).all()):
        raise MergeError(
            f"tensor {step.output.name!r} overflows when it is merged, though every parent is finite",
            where=step.output.name,
        )
    dtype = step.output.dtype
    if dtype is DType.BF16:
        emit(0, merged.to(torch.bfloat16).flatten().view(torch.uint16).numpy())
    else:
        emit(0, _stored(merged.flatten().contiguous().numpy().view("<u4"), step, 0))
