"""Tensors of torch or numpy behind the faces of a model's files: a state dict is planned and read as a checkpoint is."""

from __future__ import annotations

import json
import sys
import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from hubmerge.errors import PlanError, shown
from hubmerge.io.input_files import InputFiles
from hubmerge.plan_types import PlannedParent
from zoo_index.errors import CheckpointError, HubmergeError
from zoo_index.reference import ModelRef, PinnedRef
from zoo_index.tensors import DType, TensorMeta

__all__ = ["Kind", "MemoryInputs", "StateDict", "tensor_of"]

Kind = Literal["numpy", "torch"]

_WEIGHTS = "model.safetensors"


class StateDict:
    """One model's tensors in memory, as a `zoo_index.source.ModelSource`: a header made up for them, and an empty config.

    Raises `PlanError` for everything in `tensors` that is no dense tensor with a name, together.
    """

    def __init__(self, name: str, tensors: Any, leave_out: Iterable[str] = ()) -> None:
        self._pinned = PinnedRef(ModelRef(name))
        if not isinstance(tensors, Mapping):
            what = type(tensors).__name__
            hint = "give what its state_dict() returns" if hasattr(tensors, "state_dict") else "names to tensors"
            raise PlanError(f"a state dict is a mapping of names to tensors, got {what}", where=name, hint=hint)
        left = frozenset(leave_out)
        given = {key: value for key, value in tensors.items() if key not in left}
        self.tensors: dict[str, Any] = {
            k: np.asarray(value) if isinstance(value, np.generic) else value for k, value in given.items()
        }
        self.kinds: dict[str, Kind] = {}
        faults: list[HubmergeError] = []
        rows: dict[str, Any] = {}
        end = 0
        for key, value in self.tensors.items():
            try:
                kind, dtype = _checked(key, value, name)
            except PlanError as fault:
                faults.append(fault)
                continue
            self.kinds[key] = kind
            shape = [int(size) for size in value.shape]
            start, end = end, end + dtype.nbytes(tuple(shape))
            rows[key] = {"dtype": dtype.value, "shape": shape, "data_offsets": [start, end]}
        if faults:
            raise PlanError.of(faults)
        raw = json.dumps(rows).encode()
        self._header = len(raw).to_bytes(8, "little") + raw
        self._files = {"config.json": 2, _WEIGHTS: len(self._header) + end}

    @property
    def pinned(self) -> PinnedRef:
        return self._pinned

    def files(self) -> Mapping[str, int]:
        return self._files

    def read(self, name: str, start: int = 0, end: int | None = None) -> bytes:
        return (b"{}" if name == "config.json" else self._header)[start:end]

    def path(self, name: str) -> Path:
        raise CheckpointError(f"{name} is in memory, not on disk", where=str(self._pinned))

    def missing(self, names: Iterable[str]) -> Mapping[str, int]:  # noqa: ARG002 - all of it is here
        return {}

    def bytes_of(self, name: str) -> npt.NDArray[np.uint8]:
        """One tensor's bytes in row order: its own memory where that is how it lies there, else a copy."""
        value = self.tensors[name]
        if self.kinds[name] == "numpy":
            array = value.astype(value.dtype.newbyteorder("<"), copy=False) if value.dtype.byteorder == ">" else value
            return np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        import torch

        flat = value.detach().resolve_conj().resolve_neg().cpu().contiguous().reshape(-1)
        return flat.view(torch.uint8).numpy()  # type: ignore[no-any-return]

    def is_as_stored(self, name: str) -> bool:
        """Whether `bytes_of` copies nothing."""
        value = self.tensors[name]
        if self.kinds[name] == "numpy":
            return bool(value.flags.c_contiguous) and value.dtype.byteorder != ">"
        return value.device.type == "cpu" and bool(value.is_contiguous()) and not value.is_conj() and not value.is_neg()

    def place(self, name: str) -> tuple[Any, ...]:
        """What two names of one and the same memory share."""
        value = self.tensors[name]
        if self.kinds[name] == "numpy":
            return (value.__array_interface__["data"][0], value.shape, value.strides, value.dtype.str)
        return (str(value.device), value.data_ptr(), tuple(value.shape), value.stride(), str(value.dtype))


def _checked(key: Any, value: Any, where: str) -> tuple[Kind, DType]:
    if not isinstance(key, str) or key == "__metadata__":
        raise PlanError(f"{shown(key)} is no tensor's name", where=where, hint="names are text, as in a checkpoint")
    torch = sys.modules.get("torch")  # whoever has a torch tensor has imported it
    kind: Kind
    if isinstance(value, np.ndarray):
        kind, name = "numpy", value.dtype.name
    elif torch is not None and isinstance(value, torch.Tensor):
        kind, name = "torch", str(value.dtype)
        if value.is_meta:
            what, hint = "is on the meta device, so it has no numbers to merge", "load the weights first"
            raise PlanError(f"tensor {key!r} {what}", where=where, hint=hint)
        if value.layout is not torch.strided:
            raise PlanError(f"tensor {key!r} is sparse", where=where, hint="make it dense: to_dense()")
    else:
        what = type(value).__name__
        hint = "take out what is no weight or buffer"
        raise PlanError(f"{key!r} is a {what}, not a tensor of torch or numpy", where=where, hint=hint)
    dtype = DType.from_torch_name(name)
    if dtype is None:
        hint = "convert it to float32, float16 or bfloat16"
        raise PlanError(f"tensor {key!r} is {name.removeprefix('torch.')}", where=where, hint=hint)
    return kind, dtype


def tensor_of(data: npt.NDArray[np.uint8], output: TensorMeta, kind: Kind, device: Any = "cpu") -> Any:
    """A merged tensor from its bytes (kept, not copied), as torch or numpy has it; torch's is moved to `device`."""
    name = output.dtype.torch_name
    if kind == "numpy":
        return data.view(np.dtype(name)).reshape(output.shape)
    import torch

    dtype = getattr(torch, name)
    if not data.size:  # torch cannot see empty bytes as another type
        return torch.empty(output.shape, dtype=dtype, device=device)
    return torch.from_numpy(data).view(dtype).reshape(output.shape).to(device)


class MemoryInputs(InputFiles):
    """The parents' numbers where they lie in memory.

    A tensor that lies otherwise (strided, big-endian, on a GPU) is copied when it is read; the last `keep` copies are held,
    so that a tensor is copied once and not once for each chunk.
    """

    def __init__(self, parents: Sequence[PlannedParent], models: Sequence[StateDict], keep: int) -> None:
        super().__init__(parents)
        self._models = models
        self._keep = keep
        self._copies: OrderedDict[tuple[int, str], npt.NDArray[np.uint8]] = OrderedDict()
        self._copying = threading.Lock()

    def path(self, parent: int, file: str, in_adapter: bool = False) -> Path:  # noqa: ARG002 - there are no files
        return Path(str(self._models[parent].pinned))

    def descriptor(self, parent: int, file: str, in_adapter: bool = False) -> int | None:  # noqa: ARG002 - as above
        return None

    def read_into(
        self,
        buffer: memoryview,
        parent: int,
        meta: TensorMeta,
        start: int,
        in_adapter: bool = False,  # noqa: ARG002 - nor adapters
    ) -> None:
        model = self._models[parent]
        data = model.bytes_of(meta.name) if model.is_as_stored(meta.name) else self._copy(parent, meta.name)
        buffer[:] = data[start : start + len(buffer)].data

    def _copy(self, parent: int, name: str) -> npt.NDArray[np.uint8]:
        with self._copying:
            copy = self._copies.pop((parent, name), None)
            if copy is None:
                copy = self._models[parent].bytes_of(name)
            self._copies[parent, name] = copy
            while len(self._copies) > self._keep:
                self._copies.popitem(last=False)
            return copy
