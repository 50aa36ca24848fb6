"""The rows of local data files: which columns there are, and one column's values as they go by, nothing kept."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import numpy.typing as npt

from hubmerge.calibration.files import DataFiles, FileKind
from hubmerge.calibration.samples import Row
from hubmerge.errors import PlanError, shown

__all__ = ["FILE_COLUMN", "columns_of", "rows_of"]

FILE_COLUMN = {"text": "text", "images": "image"}
"""The one column of files that have no names for any."""

_AT_ONCE = 256
"""Rows of a table that are held while they are looked at."""


def columns_of(data: DataFiles) -> tuple[str, ...]:
    """The names of the columns, those of the first row of the first file; `PlanError` for a file that cannot be read."""
    if data.kind in FILE_COLUMN:
        return (FILE_COLUMN[data.kind],)
    with _named_faults(data.files[0]):
        return _READERS[data.kind].columns(data.files[0])


def rows_of(data: DataFiles, column: str) -> Iterator[Row]:
    """The values of `column` in all rows of all files, in order; `PlanError` that names the file that cannot be read."""
    for file in data.files:
        if data.kind == "images":
            yield Row(str(file.relative_to(data.root)), file)
            continue
        with _named_faults(file):
            for number, value in enumerate(_READERS[data.kind].values(file, column)):
                yield Row(f"row {number} of {file.name}", value)


@contextmanager
def _named_faults(file: Path) -> Iterator[None]:
    try:
        yield
    except PlanError:
        raise
    except Exception as error:  # json's, pandas', pyarrow's and zip's for files that are damaged or something else
        lines = str(getattr(error, "strerror", None) or error).strip().splitlines()
        what = f"{file.name} cannot be read ({lines[0] if lines else type(error).__name__})"
        raise PlanError(what, where="calibration.data", hint="is it what its ending says, and readable?") from error


def _text_values(file: Path, column: str) -> Iterator[str]:  # noqa: ARG001 - there is only one
    with file.open(encoding="utf-8-sig") as lines:
        for line in lines:
            yield line.rstrip("\n")


def _json_rows(file: Path) -> Iterator[Mapping[str, Any]]:
    """The mappings of a file that has one on each line, or one list of them."""
    with file.open(encoding="utf-8-sig") as stream:
        start = stream.read(1)
        while start.isspace():
            start = stream.read(1)
        stream.seek(0)
        rows = iter(json.load(stream)) if start == "[" else _json_lines(stream)
        for number, row in enumerate(rows):
            if not isinstance(row, Mapping):
                message = f"row {number} of {file.name} is no mapping of columns to values: {shown(row)}"
                raise PlanError(message, where="calibration.data", hint='write each row like {"text": "..."}')
            yield row


def _json_lines(stream: TextIO) -> Iterator[Any]:
    """What is on each line; `PlanError` for a file that is one mapping over several lines, as a config is."""
    for number, line in enumerate(stream):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            if number == 0 and error.pos >= len(line.rstrip()) and any(stream):
                message = f"{Path(stream.name).name} is neither a list of rows nor a row on every line"
                hint = 'write [{"text": "..."}, ...], or a line {"text": "..."} for every row'
                raise PlanError(message, where="calibration.data", hint=hint) from None
            raise
        yield row


def _json_columns(file: Path) -> tuple[str, ...]:
    return tuple(next(_json_rows(file), {}))


def _json_values(file: Path, column: str) -> Iterator[Any]:
    return (row.get(column) for row in _json_rows(file))


def _csv_columns(file: Path) -> tuple[str, ...]:
    import pandas as pd

    return tuple(map(str, pd.read_csv(file, nrows=0).columns))


def _csv_values(file: Path, column: str) -> Iterator[Any]:
    import pandas as pd

    kept: dict[str, Any] = {"usecols": [column], "dtype": str, "keep_default_na": False}
    for part in pd.read_csv(file, chunksize=_AT_ONCE, **kept):
        yield from part[column]


def _parquet_columns(file: Path) -> tuple[str, ...]:
    from pyarrow import parquet  # type: ignore[import-untyped]

    return tuple(parquet.read_schema(file).names)


def _parquet_values(file: Path, column: str) -> Iterator[Any]:
    from pyarrow import parquet

    with parquet.ParquetFile(file) as table:
        for part in table.iter_batches(batch_size=_AT_ONCE, columns=[column]):
            yield from part.column(0).to_pylist()


def _npz_columns(file: Path) -> tuple[str, ...]:
    with np.load(file, allow_pickle=False) as arrays:
        return tuple(arrays.files)


def _npz_values(file: Path, column: str) -> Iterator[npt.NDArray[Any]]:
    with np.load(file, allow_pickle=False) as arrays:
        array = arrays[column]
    is_picture = array.dtype == np.uint8 and (array.ndim == 3 or (array.ndim == 4 and array.shape[-1] in {1, 3, 4}))
    if not is_picture and not (array.dtype.kind == "f" and array.ndim == 4):
        raise PlanError(
            f"{column} of {file.name} is {array.dtype} of shape {array.shape}",
            where="calibration.column",
            hint="float32 (n, c, h, w) is what the model is given; uint8 (n, h, w) or (n, h, w, c) are pictures",
        )
    yield from array


@dataclass(frozen=True)
class _Reader:
    """How files of one kind are read: the names of their columns, and the values of one column."""

    columns: Callable[[Path], tuple[str, ...]]
    values: Callable[[Path, str], Iterator[Any]]


_READERS: Mapping[FileKind, _Reader] = {
    "text": _Reader(lambda _: ("text",), _text_values),
    "json": _Reader(_json_columns, _json_values),
    "csv": _Reader(_csv_columns, _csv_values),
    "parquet": _Reader(_parquet_columns, _parquet_values),
    "npz": _Reader(_npz_columns, _npz_values),
}
