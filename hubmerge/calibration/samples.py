"""`Sample`: one row of calibration data as it was found, a text, a picture or numbers; and the digest of many."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from hubmerge.calibration.files import IMAGE_SUFFIXES
from hubmerge.errors import PlanError, shown

__all__ = ["Kind", "Row", "Sample", "digest_of", "is_blank", "kind_of", "sample_of"]

Kind = Literal["text", "image", "pixels"]
"""text: tokenized.  image: a picture that goes through the image processor.  pixels: what the model is given."""

_DATA = "calibration.data"
_ON_THE_HUB = re.compile(r"(?:zip://[^:]*::)?hf://datasets/[^:]*\Z")


@dataclass(frozen=True)
class Row:
    """A value of the chosen column as it stands in the data.  place: what a person would call its row."""

    place: str
    value: Any


@dataclass(frozen=True)
class Sample:
    """A row that was drawn.

    value: a text; the bytes of an image file, or uint8 numbers (h, w) or (h, w, c), for a picture; float32 numbers
    (c, h, w) for pixels.
    """

    place: str
    value: str | bytes | npt.NDArray[Any]


def is_blank(value: Any) -> bool:
    """Whether a row has nothing in the column, or a text of spaces."""
    return value is None or (isinstance(value, str) and not value.strip())


def kind_of(value: Any) -> Kind | None:
    """What a value of a column is; None when it is nothing that a model could be given.

    A text that ends as the names of images do is such a name.
    """
    if isinstance(value, str):
        return "image" if Path(value).suffix.lower() in IMAGE_SUFFIXES else "text"
    if (
        isinstance(value, bytes | Path)
        or _is_opened(value)
        or (isinstance(value, Mapping) and {"bytes", "path"} & set(value))
    ):
        return "image"
    if isinstance(value, np.ndarray):
        return "image" if value.dtype == np.uint8 else "pixels" if value.dtype.kind == "f" else None
    return "pixels" if isinstance(value, list | tuple) and value else None


def _is_opened(value: Any) -> bool:
    """Whether a value is an image that Pillow has opened: so `datasets` hands those of folders on the Hub."""
    return type(value).__module__.startswith("PIL.")


def sample_of(row: Row, kind: Kind, root: Path | None) -> Sample:
    """The row with everything it names read.

    root: the folder that names of images are relative to; None where there is none.  Raises `PlanError` that names the row.
    """
    found = kind_of(row.value)
    if found != kind:
        raise PlanError(
            f"{row.place} is no {kind}, as the rows before it are: {shown(row.value)}",
            where=_DATA,
            hint="remove the row, or name another column",
        )
    value = row.value
    if isinstance(value, Mapping):
        value = value["bytes"] if value.get("bytes") is not None else value.get("path")
    if kind == "pixels":
        value = _pixels(row)
    elif _is_opened(value):
        value = np.asarray(value if value.mode in {"L", "RGB", "RGBA"} else value.convert("RGB"))
    elif kind == "image" and isinstance(value, str | Path):
        value = _file_bytes(row.place, value, root)
    return Sample(row.place, value)


def _pixels(row: Row) -> npt.NDArray[np.float32]:
    try:
        numbers = np.asarray(row.value, dtype=np.float32)
    except (ValueError, TypeError):  # lists of unequal lengths, or of text
        numbers = np.zeros(0, np.float32)
    if numbers.ndim != 3:
        message = f"{row.place} holds no numbers in the shape (channels, height, width)"
        raise PlanError(message, where=_DATA, hint="name a column of texts or images")
    return numbers


def _file_bytes(place: str, name: str | Path, root: Path | None) -> bytes:
    """The bytes of an image by its name: a path that was found, one relative to `root`, or an address of the Hub."""
    hint = "images are named relative to the data file, and lie beside or below it"
    if isinstance(name, str) and root is None:
        return _remote_bytes(place, name)
    path = name if isinstance(name, Path) else Path(root or "", name)
    inside = isinstance(name, Path) or path.resolve().is_relative_to(Path(root or "").resolve())
    if not inside or not path.is_file():
        raise PlanError(f"{place} names no image file: {shown(str(name))}", where=_DATA, hint=hint)
    try:
        return path.read_bytes()
    except OSError as error:
        raise PlanError(
            f"{path} cannot be read ({error.strerror})", where=_DATA, hint="check its permissions"
        ) from error


def _remote_bytes(place: str, address: str) -> bytes:
    import fsspec  # type: ignore[import-untyped]

    message = f"{place} names an image that cannot be read: {shown(address)}"
    hint = "choose another dataset, or save it with its images inside"
    if not _ON_THE_HUB.match(address):  # a stranger's row may name any file of this machine
        raise PlanError(message, where=_DATA, hint=hint)
    try:
        with fsspec.open(address, "rb") as file:
            return bytes(file.read())
    except Exception as error:  # whatever the file system of the address raises
        raise PlanError(message, where=_DATA, hint=hint) from error


def digest_of(samples: Iterable[Sample]) -> str:
    """sha256 over the samples in their order, each as what it is, its size and its bytes; names and batches do not count."""
    total = hashlib.sha256()
    for sample in samples:
        value = sample.value
        if isinstance(value, np.ndarray):
            what, data = f"{value.dtype.str}{value.shape}", np.ascontiguousarray(value).tobytes()
        else:
            what = "text" if isinstance(value, str) else "image"
            data = value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value
        total.update(f"{what} {len(data)}\0".encode())
        total.update(data)
    return total.hexdigest()
