"""Models and data by name, for measurements in memory: loaded in float32, with labels where a column has them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice, zip_longest
from typing import TYPE_CHECKING, Any

import numpy as np

from hubmerge.calibration import Batches, Calibration, open_calibration
from hubmerge.calibration.check import locate
from hubmerge.calibration.draw import drawn
from hubmerge.calibration.files import DataFiles
from hubmerge.calibration.local_rows import columns_of, rows_of
from hubmerge.calibration.model_side import kinds_taken
from hubmerge.calibration.samples import Row, is_blank
from hubmerge.errors import PlanError, shown
from hubmerge.heterogeneous.loading import load_in_float32
from hubmerge.parents import ParentModel, open_parent, refuse_adapter
from zoo_index.hub import fetch
from zoo_index.reference import ModelRef

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["check_labels", "labelled", "loaded", "opened"]


def opened(name: str) -> ParentModel:
    """The headers of a folder or of a model on the Hub; `PlanError` for one with an adapter."""
    reference = ModelRef.parse(name)
    refuse_adapter(reference, "a model with an adapter has no layers of its own")
    return open_parent(reference)


def loaded(parent: ParentModel) -> Any:
    """The model in float32 and evaluation mode; raises as `load_in_float32`."""
    fetch([(parent.source, file) for file in ("config.json", *parent.table.files)])
    return load_in_float32(parent.source.path("config.json").parent, parent.config, str(parent.reference))


def labelled(
    calibration: Calibration, base: ParentModel, labels: str | None, where: str = "--labels"
) -> tuple[Batches, list[dict[str, Tensor]] | None]:
    """The data as the base takes it; with labels, a column of whole numbers, also its batches with them.

    Raises as `open_calibration` does, and `PlanError`, with `where`, for labels that are not there, are no classes of the base, or cannot
    be read.
    """
    batches = open_calibration(calibration, base.source, base.config)
    if labels is None:
        return batches, None
    import torch

    kept = _labelled_rows(calibration, base, labels, where)
    numbers = [label for _, label in drawn(kept, calibration.samples, calibration.seed)]
    _check(numbers, base.config, labels, where)
    found, start = [], 0
    for batch in batches:
        size = len(next(iter(batch.values())))
        found.append({**batch, "labels": torch.tensor(numbers[start : start + size])})
        start += size
    return batches, found


def check_labels(calibration: Calibration, base: ParentModel, labels: str, where: str) -> None:
    """Raise as `labelled` does, as far as the first rows tell; nothing is loaded."""
    first = islice(_labelled_rows(calibration, base, labels, where), calibration.samples)
    _check([label for _, label in first], base.config, labels, where)


def _labelled_rows(calibration: Calibration, base: ParentModel, labels: str, where: str) -> Iterator[tuple[Row, int]]:
    """The rows that are not blank, each with its label."""
    _check_head(base, where)
    found = locate(calibration, kinds_taken(base.source), None)
    if found.files is None or found.files.kind in {"images", "text"}:
        what = "a dataset on the Hub" if found.files is None else "files without columns"
        raise PlanError(
            f"labels are not read from {what}", where=where, hint="save images and labels in one .npz or .parquet"
        )
    rows = _side_by_side(found.files, found.column, labels, where)
    return ((row, label) for row, label in rows if not is_blank(row.value))


def _side_by_side(data: DataFiles, column: str, labels: str, where: str) -> Iterator[tuple[Row, int]]:
    """Every row with its label; `PlanError` where there are more of one than of the other, as two arrays of .npz can have."""
    for row, label in zip_longest(rows_of(data, column), _labels(data, labels, where)):
        if row is None or label is None:
            raise PlanError(
                f"columns {column!r} and {labels!r} have different numbers of rows",
                where=where,
                hint="give every row its label",
            )
        yield row, label


def _check_head(base: ParentModel, where: str) -> None:
    """`PlanError` for a model whose loss is not that of one class for every input."""
    name, kind = str((base.config.get("architectures") or [""])[0]), base.config.get("problem_type")
    if "Classification" in name and "TokenClassification" not in name and kind in {None, "single_label_classification"}:
        return
    what = f"{name}, {kind}" if kind else name
    raise PlanError(
        f"{base.reference} ({what}) does not tell classes apart, and labels are numbers of classes",
        where=where,
        hint="leave the labels out, or take a base that is a classifier",
    )


def _labels(data: DataFiles, column: str, where: str = "--labels") -> Iterator[int]:
    """The numbers of a column, row by row; arrays of .npz are read here, since those of calibration hold pixels only."""
    columns = columns_of(data)
    if column not in columns:
        raise PlanError(
            f"{data.files[0].name} has no column {column!r}", where=where, hint=f"the columns are {', '.join(columns)}"
        )
    for file in data.files:
        try:
            if data.kind == "npz":
                with np.load(file, allow_pickle=False) as arrays:
                    values: Sequence[Any] = arrays[column].tolist()
            else:
                own = DataFiles(data.root, data.kind, (file,))
                values = [row.value for row in rows_of(own, column)]
            yield from map(_whole, values)
        except (KeyError, ValueError, TypeError, OverflowError) as error:
            raise PlanError(
                f"{file.name} has no whole numbers in column {column!r}", where=where, hint="name another column"
            ) from error


def _whole(value: Any) -> int:
    """The number that `value` is or spells; `ValueError` for a fraction, which `int` would cut."""
    number = int(value)
    if isinstance(value, float) and number != value:
        raise ValueError(value)
    return number


def _check(numbers: Sequence[int], config: Mapping[str, Any], column: str, where: str) -> None:
    classes = len(config.get("id2label") or {}) or 2
    odd = next((number for number in numbers if not 0 <= number < classes), None)
    if odd is not None:
        raise PlanError(
            f"column {column!r} holds {shown(odd)}, and the base has {classes} classes",
            where=where,
            hint="labels are the numbers of the base's classes, from 0",
        )
