"""What a checkpoint holds, without its bytes: `DType`, `TensorMeta` and `TensorTable`."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum

__all__ = ["DType", "Scale", "TensorMeta", "TensorTable"]


class DType(Enum):
    """A safetensors element type; the value is its name in a header."""

    F64 = "F64"
    F32 = "F32"
    F16 = "F16"
    BF16 = "BF16"
    F8_E4M3 = "F8_E4M3"
    F8_E5M2 = "F8_E5M2"
    F8_E8M0 = "F8_E8M0"
    F6_E2M3 = "F6_E2M3"
    F6_E3M2 = "F6_E3M2"
    F4 = "F4"
    C64 = "C64"
    I64 = "I64"
    U64 = "U64"
    I32 = "I32"
    U32 = "U32"
    I16 = "I16"
    U16 = "U16"
    I8 = "I8"
    U8 = "U8"
    BOOL = "BOOL"

    @property
    def bits(self) -> int:
        """Bits per element (F4 and F6 are packed)."""
        return _BITS[self]

    @property
    def is_float(self) -> bool:
        """Whether elements are real floating-point numbers (of any width)."""
        return self.value.startswith(("F", "BF"))

    @property
    def torch_name(self) -> str:
        """The name config.json and recipes use (``bfloat16``)."""
        return _TORCH_NAMES.get(self, self.value.lower())

    @classmethod
    def from_torch_name(cls, name: str) -> DType | None:
        """The type behind ``bfloat16`` or ``torch.bfloat16``; None when there is none."""
        return _FROM_TORCH.get(name.removeprefix("torch."))

    def nbytes(self, shape: tuple[int, ...]) -> int:
        """Bytes a dense tensor of `shape` takes."""
        return -(-math.prod(shape) * self.bits // 8)


_BITS = {
    DType.F64: 64, DType.F32: 32, DType.F16: 16, DType.BF16: 16, DType.F8_E4M3: 8, DType.F8_E5M2: 8, DType.F8_E8M0: 8,
    DType.F6_E2M3: 6, DType.F6_E3M2: 6, DType.F4: 4, DType.C64: 64, DType.I64: 64, DType.U64: 64, DType.I32: 32,
    DType.U32: 32, DType.I16: 16, DType.U16: 16, DType.I8: 8, DType.U8: 8, DType.BOOL: 8,
}  # fmt: skip
_TORCH_NAMES = {
    DType.F64: "float64", DType.F32: "float32", DType.F16: "float16", DType.BF16: "bfloat16",
    DType.F8_E4M3: "float8_e4m3fn", DType.F8_E5M2: "float8_e5m2", DType.C64: "complex64", DType.I64: "int64",
    DType.I32: "int32", DType.I16: "int16", DType.I8: "int8", DType.U64: "uint64", DType.U32: "uint32",
    DType.U16: "uint16", DType.U8: "uint8", DType.BOOL: "bool",
}  # fmt: skip
_FROM_TORCH = {name: dtype for dtype, name in _TORCH_NAMES.items()} | {
    "double": DType.F64, "float": DType.F32, "half": DType.F16, "fp32": DType.F32, "fp16": DType.F16,
    "bf16": DType.BF16,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class TensorMeta:
    """One tensor on disk: `file` is relative to the model's folder, `start` and `end` are byte offsets in that file.

    scale: what its stored numbers are multiplied by, for float8 weights that have scales.
    """

    name: str
    dtype: DType
    shape: tuple[int, ...]
    file: str
    start: int
    end: int
    scale: Scale | None = None

    @property
    def numel(self) -> int:
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        return self.end - self.start


@dataclass(frozen=True, slots=True)
class Scale:
    """The scales of one float8 tensor.

    tensor: where they are stored.  rows, columns: of the weight as a matrix whose rows are all but its last axis (a vector
    is one row).  block: rows and columns that share a scale.  per_matrix: rows of one matrix, where the weight is a stack of
    matrices; blocks begin anew in each.
    """

    tensor: TensorMeta
    rows: int
    columns: int
    block: tuple[int, int]
    per_matrix: int


@dataclass(frozen=True)
class TensorTable(Mapping[str, TensorMeta]):
    """Every tensor of one checkpoint by name, sorted by name.

    headers: file name -> sha256 of that file's header bytes, the cheap identity of a folder's weights.
    """

    tensors: Mapping[str, TensorMeta]
    headers: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, tensors: Iterable[TensorMeta], headers: Mapping[str, str] | None = None) -> TensorTable:
        ordered = sorted(tensors, key=lambda meta: meta.name)
        return cls({meta.name: meta for meta in ordered}, dict(headers or {}))

    def __getitem__(self, name: str) -> TensorMeta:
        return self.tensors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.tensors)

    def __len__(self) -> int:
        return len(self.tensors)

    @property
    def files(self) -> tuple[str, ...]:
        scales = {meta.scale.tensor.file for meta in self.tensors.values() if meta.scale is not None}
        return tuple(sorted(scales.union(meta.file for meta in self.tensors.values())))

    @property
    def parameters(self) -> int:
        """Elements of all floating-point tensors (buffers of integers are not parameters)."""
        return sum(meta.numel for meta in self.tensors.values() if meta.dtype.is_float)

    @property
    def nbytes(self) -> int:
        return sum(meta.nbytes for meta in self.tensors.values())

    @property
    def dtypes(self) -> dict[DType, int]:
        """Floating-point types with the number of elements stored in each, most frequent first."""
        counts: dict[DType, int] = {}
        for meta in self.tensors.values():
            if meta.dtype.is_float:
                counts[meta.dtype] = counts.get(meta.dtype, 0) + meta.numel
        return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0].value)))

    def signature(self, exclude: tuple[str, ...] = ()) -> str:
        """sha256 over sorted (name, shape) of all tensors whose name contains none of `exclude`.

        Equal signatures mean that the two checkpoints can be combined entry by entry.
        """
        rows = (f"{m.name} {m.shape}\n" for m in self.tensors.values() if not any(part in m.name for part in exclude))
        return hashlib.sha256("".join(rows).encode()).hexdigest()
