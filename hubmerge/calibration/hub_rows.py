"""The rows of a dataset on the Hub: what it has, told without reading it, and rows as they arrive, in an order by seed."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any, TypeVar

from hubmerge.calibration.samples import Kind, Row, is_blank, kind_of
from hubmerge.errors import PlanError
from hubmerge.recipe_calibration import Calibration
from zoo_index.errors import HubError
from zoo_index.hub import is_offline
from zoo_index.hub_calls import call
from zoo_index.reference import ModelRef

__all__ = ["HubData", "find_dataset", "hub_rows"]

T = TypeVar("T")

_BUFFER = 1_000
"""Rows that are shuffled among one another."""
_HEAD = 1 << 20
"""Bytes of a text file in which its first row is looked for."""
_READ = frozenset({"arrow", "csv", "imagefolder", "json", "parquet", "text"})
"""What kinds of files are read; among the others of `datasets` are pickles, which can run code."""


@dataclass(frozen=True)
class HubData:
    """A dataset at one commit.

    columns: what each holds, None where that does not show; empty when they are not told without reading rows.
    rows: how many the split has, None when that is not told.
    """

    name: str
    commit: str
    columns: Mapping[str, Kind | None]
    rows: int | None


def find_dataset(calibration: Calibration, commit: str | None = None) -> HubData:
    """Look a dataset up: its commit (`commit`, when it is known), the columns and rows of its split.  No rows are read.

    Raises `HubError` when the Hub refuses or cannot be reached, `PlanError` for a dataset that is not read and for a subset or
    a split that it does not have.
    """
    name, pinned = _pinned(calibration, commit)
    builder = _builder(calibration, name, pinned)
    files: Mapping[str, Any] = builder.config.data_files or {}
    if calibration.split not in files:
        hint = f"one of {', '.join(map(str, files))}" if files else "choose another dataset"
        raise PlanError(f"{name} has no split {calibration.split!r}", where="calibration.split", hint=hint)
    told = (builder.info.splits or {}).get(calibration.split)
    address = str(files[calibration.split][0])
    columns = _kinds(builder.info.features) or _asked(name, lambda: _looked_at(builder.name, address))
    return HubData(name, pinned, columns, told.num_examples if told else None)


def hub_rows(calibration: Calibration, dataset: HubData, column: str) -> Iterator[Row]:
    """The values of `column` that are not blank, as they arrive, shuffled by the seed as far as a buffer of 1,000 rows does it.

    The same for the same commit, seed and version of `datasets`.  Raises `HubError` and `PlanError` as `find_dataset` does.
    """
    from datasets import Image

    name = dataset.name
    builder = _builder(calibration, name, dataset.commit)
    stream = _asked(name, lambda: builder.as_streaming_dataset(split=calibration.split))
    if dataset.columns.get(column) == "image":
        stream = _asked(name, lambda: stream.cast_column(column, Image(decode=False)))  # as bytes, not opened
    rows = iter(stream.shuffle(seed=calibration.seed, buffer_size=_BUFFER))
    for number in count():
        row = _asked(name, lambda: next(rows, None))
        if row is None:
            return
        if column not in row:
            hint = f"the columns are {', '.join(row)}"
            raise PlanError(f"{name} has no column {column!r}", where="calibration.column", hint=hint)
        if not is_blank(row[column]):
            yield Row(f"row {number} drawn from {name}", row[column])


def _pinned(calibration: Calibration, commit: str | None) -> tuple[str, str]:
    """The dataset's name and its commit; `HubError` when there is none."""
    reference = ModelRef.of(calibration.data)
    name = reference.name
    if is_offline():
        raise PlanError(
            f"there is no folder {name} here, and HF_HUB_OFFLINE is set, so that datasets on the Hub are out of reach",
            where="calibration.data",
            hint=f"`hf download {name} --repo-type dataset --local-dir data` fetches it; then write data: ./data",
        )
    if commit is not None:
        return name, commit
    from huggingface_hub import HfApi

    place = f"datasets/{name}"
    try:
        sha = call(place, lambda: HfApi().dataset_info(name, revision=reference.revision).sha)
    except HubError as error:  # told of models, which have names of the same form
        message = error.message.replace("model", "dataset")
        raise type(error)(message, where=error.where, hint=error.hint) from error
    if sha is None:
        raise HubError("the Hub tells no commit", where=place, hint="try again later")
    return name, sha


def _builder(calibration: Calibration, name: str, commit: str) -> Any:
    from datasets import load_dataset_builder

    with _without_bars():
        builder = _asked(name, lambda: load_dataset_builder(name, calibration.subset, revision=commit))
    if builder.name not in _READ or not type(builder).__module__.startswith("datasets.packaged_modules."):
        known = ", ".join(sorted(_READ - {"imagefolder"}))
        hint = f"read are {known} and folders of images; save it as one of them, and name the folder"
        raise PlanError(f"{name} consists of {builder.name} files", where="calibration.data", hint=hint)
    return builder


@contextmanager
def _without_bars() -> Iterator[None]:
    """Without the progress bars of `datasets`, which count files."""
    import datasets

    had_none = datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if not had_none:
            datasets.enable_progress_bars()


def _asked(name: str, question: Callable[[], T]) -> T:
    """The answer of `datasets`, whose many exceptions become a `PlanError` in its words."""
    try:
        return question()
    except Exception as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        said = " ".join(lines[:2])[:300] or type(error).__name__
        hint = "name one in subset" if "onfig" in said else f"does `datasets.load_dataset({name!r})` read it?"
        raise PlanError(f"{name} cannot be read ({said})", where="calibration.data", hint=hint) from error


def _kinds(features: Mapping[str, Any] | None) -> dict[str, Kind | None]:
    return {name: _kind(feature) for name, feature in (features or {}).items()}


def _kind(feature: Any) -> Kind | None:
    what = type(feature).__name__
    if what == "Image" or (isinstance(feature, Mapping) and "bytes" in feature):
        return "image"
    if what == "Value":
        return "text" if "string" in feature.dtype else None
    return "pixels" if what in {"Array3D", "List", "LargeList", "list"} else None


def _looked_at(kind: str, address: str) -> dict[str, Kind | None]:
    """The columns by the head of a split's first file; none where the head does not show them."""
    import fsspec  # type: ignore[import-untyped]

    if kind == "parquet":
        from datasets import Features
        from pyarrow import parquet  # type: ignore[import-untyped]

        with fsspec.open(address, "rb") as file:
            return _kinds(Features.from_arrow_schema(parquet.read_schema(file)))
    if kind == "text":
        return {"text": "text"}
    if kind == "imagefolder":
        return {"image": "image"}
    if kind not in {"csv", "json"}:
        return {}
    with fsspec.open(address, "rb", compression="infer") as file:
        head = file.read(_HEAD)
    if kind == "csv":
        import pandas as pd

        return {str(name): None for name in pd.read_csv(io.BytesIO(head), nrows=0).columns}
    try:
        first = json.loads(head.lstrip().partition(b"\n")[0])
    except ValueError:  # one list of all rows
        return {}
    return {name: kind_of(value) for name, value in first.items()} if isinstance(first, dict) else {}
