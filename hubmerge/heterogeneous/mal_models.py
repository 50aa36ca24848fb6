"""Models and data by name, for measurements in memory: loaded in float32, with labels where a column has them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hubmerge.calibration import Batches, Calibration, open_calibration
from hubmerge.calibration.check import locate
from hubmerge.calibration.draw import drawn
from hubmerge.calibration.files import DataFiles
from hubmerge.calibration.local_rows import rows_of
from hubmerge.calibration.model_side import kinds_taken
from hubmerge.calibration.samples import is_blank
from hubmerge.errors import MergeError, PlanError, shown
from hubmerge.model_config import check_labels, model_class
from hubmerge.parents import ParentModel, open_parent
from zoo_index.hub import fetch
from zoo_index.reference import ModelRef

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["labelled", "loaded", "opened"]

_LONGEST = 200


def opened(name: str) -> ParentModel:
    """The headers of a folder or of a model on the Hub; `PlanError` for one with an adapter."""
    reference = ModelRef.parse(name)
    if reference.adapter is not None:
        raise PlanError(
            "a model with an adapter has no layers of its own",
            where=name,
            hint="make one model of the two first: `hubmerge merge` with merge_method: passthrough and this model alone",
        )
    return open_parent(reference)


def loaded(parent: ParentModel) -> Any:
    """The model in float32 and evaluation mode, of the class that its config names; code of its own never runs.

    Raises `PlanError` for a config that names no class, `MergeError` for a model that transformers cannot load or that lacks tensors.
    """
    import torch

    name = str(parent.reference)
    check_labels(parent.config, name)
    concrete = model_class(parent.config, name)
    fetch([(parent.source, file) for file in ("config.json", *parent.table.files)])
    folder: Path = parent.source.path("config.json").parent
    try:
        model, info = concrete.from_pretrained(
            folder, dtype=torch.float32, output_loading_info=True, use_safetensors=True, local_files_only=True
        )
    except (ImportError, MemoryError):  # what this machine lacks is no fault of the model
        raise
    except Exception as error:  # a strange config lets transformers fail in every way there is
        told = f"{type(error).__name__}: {' '.join(str(error).split())}"[:_LONGEST]
        message = f"transformers cannot load it ({told})"
        raise MergeError(message, where=name, hint="mend config.json or the weights") from error
    missing = sorted(info["missing_keys"])
    if missing:
        message = f"{concrete.__name__} needs {len(missing)} tensors that it does not have (first {missing[0]!r})"
        hint = "name the class that it was saved from in config.json, as architectures"
        raise MergeError(message, where=name, hint=hint)
    return model.eval()


def labelled(
    calibration: Calibration, base: ParentModel, labels: str | None
) -> tuple[Batches, list[dict[str, Tensor]] | None]:
    """The data as the base takes it; with labels, a column of whole numbers, also its batches with them.

    Raises as `open_calibration` does, and `PlanError` for labels that are not there, are no classes of the base, or cannot be read.
    """
    batches = open_calibration(calibration, base.source, base.config)
    if labels is None:
        return batches, None
    import torch

    where = locate(calibration, kinds_taken(base.source), None)
    if where.files is None or where.files.kind in {"images", "text"}:
        what = "a dataset on the Hub" if where.files is None else "files without columns"
        raise PlanError(
            f"labels are not read from {what}", where="--labels", hint="save images and labels in one .npz or .parquet"
        )
    rows = zip(rows_of(where.files, where.column), _labels(where.files, labels), strict=True)
    kept = ((row, label) for row, label in rows if not is_blank(row.value))
    numbers = [label for _, label in drawn(kept, calibration.samples, calibration.seed)]
    _check(numbers, base.config, labels)
    found, start = [], 0
    for batch in batches:
        size = len(next(iter(batch.values())))
        found.append({**batch, "labels": torch.tensor(numbers[start : start + size])})
        start += size
    return batches, found


def _labels(data: DataFiles, column: str) -> Iterator[int]:
    """The numbers of a column, row by row; arrays of .npz are read here, since those of calibration hold pixels only."""
    for file in data.files:
        try:
            if data.kind == "npz":
                with np.load(file, allow_pickle=False) as arrays:
                    values: Sequence[Any] = arrays[column].tolist()
            else:
                own = DataFiles(data.root, data.kind, (file,))
                values = [row.value for row in rows_of(own, column)]
            yield from (int(value) for value in values)
        except (KeyError, ValueError, TypeError) as error:
            raise PlanError(
                f"{file.name} has no whole numbers in column {column!r}", where="--labels", hint="name another column"
            ) from error


def _check(numbers: Sequence[int], config: Mapping[str, Any], column: str) -> None:
    classes = len(config.get("id2label") or {}) or 2
    odd = next((number for number in numbers if not 0 <= number < classes), None)
    if odd is not None:
        raise PlanError(
            f"column {column!r} holds {shown(odd)}, and the base has {classes} classes",
            where="--labels",
            hint="labels are the numbers of the base's classes, from 0",
        )
