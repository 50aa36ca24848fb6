"""A task's rows through `datasets`: images or texts with label names, from local files only.

Nothing is fetched and nothing stays behind: what `datasets` caches goes into a folder that lives as long as the rows.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from cards.data_files import DataFiles, find_files
from cards.errors import SuiteError
from cards.suite import Suite, Task

__all__ = ["TaskData", "open_task_data"]


@dataclass(frozen=True)
class TaskData:
    """The rows of a task, in their order.

    rows: a `datasets.Dataset` with the task's own columns.  labels: the label name of every row, empty for
    perplexity.  all_labels: the distinct label names of the data, sorted, and sha256: digest of all its files, both
    whether or not `samples` picks from them.
    """

    rows: Any
    labels: tuple[str, ...]
    sha256: str
    all_labels: tuple[str, ...] = ()

    @property
    def label_set(self) -> tuple[str, ...]:
        """The distinct label names of the rows, sorted."""
        return tuple(sorted(set(self.labels)))


@contextmanager
def open_task_data(suite: Suite, task: Task) -> Iterator[TaskData]:
    """The data of `task`, at most `task.samples` rows of it, drawn with the suite's seed and kept in file order.

    Raises `SuiteError` that names the task for missing files or columns, empty data, and labels that are no names.
    """
    where = f"task {task.name!r}"
    found = find_files(suite.path_of(task), task.split, where=where)
    with TemporaryDirectory(prefix="hubmerge-data-", ignore_cleanup_errors=True) as cache:
        rows, digest = _load(found, task, cache, where)
        if len(rows) == 0:
            raise SuiteError("the data has no rows", where=where, hint="name other data")
        labels = () if task.task == "perplexity" else _label_names(rows, task.label_column, where)
        every = tuple(sorted(set(labels)))
        if task.samples is not None and task.samples < len(rows):
            picked = sorted(random.Random(suite.seed).sample(range(len(rows)), task.samples))  # noqa: S311 - a sample, no secret
            rows = rows.select(picked)
            labels = tuple(labels[row] for row in picked) if labels else ()
        yield TaskData(rows, labels, digest, every)


def _load(found: DataFiles, task: Task, cache: str, where: str) -> tuple[Any, str]:
    is_image_task = task.task == "image-classification"
    if found.kind == "images":
        if not is_image_task:
            raise SuiteError(f"images cannot be used for {task.task}", where=where, hint="name text data")
        return _image_folder(found, task), found.sha256
    rows = _row_dataset(found, cache, where)
    for column in _columns(task):
        if column not in rows.column_names:
            key = next(key for key in ("text_column", "image_column", "label_column") if getattr(task, key) == column)
            hint = f"the columns are {', '.join(rows.column_names)}; set {key}"
            raise SuiteError(f"no column {column!r}", where=where, hint=hint)
    if not is_image_task:
        _check_texts(rows, task.text_column, where)
        return rows, found.sha256
    return _with_images(rows, found, task.image_column, where)


def _columns(task: Task) -> tuple[str, ...]:
    if task.task == "perplexity":
        return (task.text_column,)
    return (task.image_column if task.task == "image-classification" else task.text_column, task.label_column)


def _image_folder(found: DataFiles, task: Task) -> Any:
    from datasets import Dataset, Image

    columns = {
        task.image_column: [str(file) for file in found.files],
        task.label_column: [file.relative_to(found.root).parts[0] for file in found.files],
    }
    return Dataset.from_dict(columns).cast_column(task.image_column, Image())


def _row_dataset(found: DataFiles, cache: str, where: str) -> Any:
    from datasets import load_dataset
    from datasets.exceptions import DatasetGenerationError

    options = {"sample_by": "document"} if found.kind == "text" else {}
    files = {"data": [str(file) for file in found.files]}
    try:
        return load_dataset(found.kind, data_files=files, split="data", cache_dir=cache, **options)
    except (DatasetGenerationError, ValueError, OSError) as error:
        cause = str(error.__cause__ or error).strip().splitlines()
        what = f"the files cannot be read as {found.kind} ({cause[0] if cause else type(error).__name__})"
        raise SuiteError(what, where=where, hint=f"check {found.files[0].name}") from error


def _check_texts(rows: Any, column: str, where: str) -> None:
    for number, text in enumerate(rows[column]):
        if not isinstance(text, str) or not text:
            what = f"row {number} has no text in column {column!r}"
            raise SuiteError(what, where=where, hint="remove the row, or set text_column")


def _with_images(rows: Any, found: DataFiles, column: str, where: str) -> tuple[Any, str]:
    """Rows whose image column is an image: embedded already, or a path relative to the data file's folder."""
    from datasets import Image

    from cards.data_files import digest_files

    feature = rows.features[column]
    if isinstance(feature, Image):
        return rows, found.sha256
    if isinstance(feature, dict) and "bytes" in feature:  # a parquet file written without the Image type
        return rows.cast_column(column, Image()), found.sha256
    paths = _image_paths(rows[column], found.root, where)
    rows = rows.remove_columns(column).add_column(column, [str(path) for path in paths]).cast_column(column, Image())
    return rows, digest_files(found.root, {*found.files, *paths})


def _image_paths(names: Sequence[object], root: Path, where: str) -> list[Path]:
    paths = []
    for number, name in enumerate(names):
        path = root / str(name)
        inside = isinstance(name, str) and path.resolve().is_relative_to(root.resolve())
        if not inside or not path.is_file():
            hint = "images are named relative to the data file, and lie beside or below it"
            raise SuiteError(f"row {number} names no image file: {name!r}", where=where, hint=hint)
        paths.append(path)
    return paths


def _label_names(rows: Any, column: str, where: str) -> tuple[str, ...]:
    """Labels as names: text, the names that the data itself gives to numbers, or the digits of a whole number."""
    from datasets import ClassLabel

    feature = rows.features[column]
    names = []
    for number, value in enumerate(rows[column]):
        if isinstance(feature, ClassLabel) and isinstance(value, int) and 0 <= value < feature.num_classes:
            names.append(feature.int2str(value))
        elif isinstance(value, str) and value:
            names.append(value)
        elif isinstance(value, int) and not isinstance(value, bool):
            names.append(str(value))
        else:
            what = f"row {number} has label {value!r}, which is no name"
            raise SuiteError(what, where=where, hint=f"write label names as text in column {column!r}")
    return tuple(names)
