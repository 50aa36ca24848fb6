"""A safetensors header, checked completely before anything is believed: bytes -> `TensorMeta` rows.

Format: 8 bytes little-endian length n, n bytes of JSON, then the tensors' bytes without gap or overlap.
(Source: the safetensors README, section "Format".)
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from zoo_index.errors import CheckpointError
from zoo_index.tensors import DType, TensorMeta

__all__ = ["MAX_HEADER_BYTES", "PREFIX_BYTES", "Header", "header_length", "parse_header"]

MAX_HEADER_BYTES = 100_000_000
"""The format's own limit on the JSON header."""

_LFS_POINTER = b"version https://git-lfs"
"""How the text begins that Git LFS leaves in place of a large file that was not fetched (its specification, v1)."""

PREFIX_BYTES = len(_LFS_POINTER)
"""How much of a file's beginning `header_length` looks at: the length, or what shows that it is none."""

_HINT = "the file is damaged or not safetensors; fetch or save it again"
_DTYPES = {dtype.value: dtype for dtype in DType}


@dataclass(frozen=True)
class Header:
    """The parsed header of one file: its tensors in the order of their offsets, its metadata and sha256."""

    tensors: tuple[TensorMeta, ...]
    metadata: dict[str, str]
    sha256: str


def header_length(prefix: bytes, *, file: str, file_size: int) -> int:
    """Length of the JSON header; `CheckpointError` when it cannot be true.

    prefix: the file's first `PREFIX_BYTES`; 8 bytes suffice where the file cannot be a Git LFS pointer.
    """
    if prefix.startswith(_LFS_POINTER):
        raise CheckpointError(
            "the file is a Git LFS pointer, not the weights it points to",
            where=file,
            hint="run `git lfs pull` in the repository it was cloned to",
        )
    if len(prefix) < 8:
        raise CheckpointError(f"file has {file_size} bytes, too short for a safetensors header", where=file, hint=_HINT)
    length = int.from_bytes(prefix[:8], "little")
    if length > MAX_HEADER_BYTES or 8 + length > file_size:
        raise CheckpointError(
            f"header says it is {length} bytes long in a file of {file_size} bytes", where=file, hint=_HINT
        )
    return length


def parse_header(raw: bytes, *, file: str, file_size: int) -> Header:
    """Parse and check the JSON header `raw` (without its length prefix) of `file`.

    Raises `CheckpointError` naming the file and the tensor when the JSON is malformed, a name occurs twice, a type
    is unknown, a shape and its bytes disagree, or the tensors do not tile the file exactly.
    """
    entries = _load_json(raw, file)
    metadata = entries.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise CheckpointError("__metadata__ is not a map of strings", where=file, hint=_HINT)
    data_start = 8 + len(raw)
    tensors = sorted((_entry(name, entry, file, data_start) for name, entry in entries.items()), key=_by_offset)
    expected = data_start
    for meta in tensors:
        if meta.start != expected:
            kind = "overlaps the tensor before it" if meta.start < expected else "leaves a gap before it"
            raise CheckpointError(f"tensor {meta.name!r} {kind}", where=file, hint=_HINT)
        expected = meta.end
    if expected != file_size:
        what = "ends before its tensors do" if expected > file_size else "has bytes that no tensor owns"
        raise CheckpointError(f"file {what}: {file_size} bytes, header describes {expected}", where=file, hint=_HINT)
    return Header(tuple(tensors), metadata, hashlib.sha256(raw).hexdigest())


def _by_offset(meta: TensorMeta) -> tuple[int, int, str]:
    return meta.start, meta.end, meta.name


def _load_json(raw: bytes, file: str) -> dict[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        names = [name for name, _ in pairs]
        if len(set(names)) != len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise CheckpointError(f"header lists {twice!r} twice", where=file, hint=_HINT)
        return dict(pairs)

    try:
        entries = json.loads(raw.decode("utf-8"), object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:  # ValueError: no UTF-8, no JSON, or a number of 5,000 digits
        raise CheckpointError(f"header is not JSON ({error})", where=file, hint=_HINT) from error
    if not isinstance(entries, dict):
        raise CheckpointError("header is not a JSON object", where=file, hint=_HINT)
    return entries


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_unicode(text: str) -> bool:
    # JSON can escape half of a surrogate pair, which no file, hash or terminal takes
    return not any("\ud800" <= char <= "\udfff" for char in text)


def _entry(name: str, entry: object, file: str, data_start: int) -> TensorMeta:
    def fault(what: str) -> CheckpointError:
        return CheckpointError(f"tensor {name!r} {what}", where=file, hint=_HINT)

    if not isinstance(entry, dict) or not {"dtype", "shape", "data_offsets"} <= entry.keys():
        raise fault("lacks dtype, shape or data_offsets")
    if not _is_unicode(name):
        raise fault("has a name that is not Unicode text")
    dtype = _DTYPES.get(entry["dtype"]) if isinstance(entry["dtype"], str) else None
    if dtype is None:
        raise fault(f"has unknown dtype {entry['dtype']!r}")
    shape, offsets = entry["shape"], entry["data_offsets"]
    if not isinstance(shape, list) or not all(_is_count(size) for size in shape):
        raise fault(f"has shape {shape!r}")
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(_is_count(offset) for offset in offsets):
        raise fault(f"has data_offsets {offsets!r}")
    start, end = offsets
    if end - start != dtype.nbytes(tuple(shape)):
        raise fault(f"of shape {shape} and dtype {dtype.value} does not fit its {end - start} bytes")
    return TensorMeta(name, dtype, tuple(shape), file, data_start + start, data_start + end)
