"""The calibration's part of a recipe: which data, which column of it, how much."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath, PurePosixPath
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from hubmerge.errors import shown
from hubmerge.recipe_part import Part
from zoo_index.reference import ModelRef, is_local_name

__all__ = ["FILE_SUFFIXES", "Calibration", "CalibrationKey", "TaskData", "TaskDataKey"]

FILE_SUFFIXES = (".jsonl", ".json", ".csv", ".parquet", ".txt", ".npz")
"""What the name of a data file ends in."""


def _data(value: Any) -> Any:
    """A name with the ending of a data file is a file's, also without ``./``: no dataset on the Hub is called so."""
    if isinstance(value, PurePath):
        path = value.as_posix()
        return path if is_local_name(path) else f"./{path}"
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"data is a dataset on the Hub, a file or a folder, got {shown(value)}")
    name = value.strip()
    if not is_local_name(name) and PurePosixPath(name).suffix.lower() in FILE_SUFFIXES:
        return f"./{name}"
    return str(ModelRef.of(name))


class Calibration(Part):
    """Unlabelled data that the models are run on: to match units by what they do, and to fit layers."""

    data: Annotated[str, BeforeValidator(_data)] = Field(
        description="a dataset on the Hub (org/name, org/name@revision), a file (.jsonl, .json, .csv, .parquet, .txt with a text "
        "on each line, .npz), or a folder of such files or of images; relative to the current folder"
    )
    column: str | None = Field(
        None,
        description="the column, or in .npz the array, of texts, images or numbers; default: the first there is of text, "
        "sentence, content, image, images, img, pixel_values that the base model can be given",
    )
    split: str = Field("train", min_length=1, description="which split of a dataset, or of a folder that has splits")
    subset: str | None = Field(None, description="which configuration of a dataset on the Hub that has several")
    samples: int = Field(256, ge=1, lt=2**31, strict=True, description="how many rows are drawn, none twice")
    max_length: int = Field(512, ge=1, lt=2**31, strict=True, description="tokens of a text; longer ones are cut")
    batch: int = Field(32, ge=1, lt=2**31, strict=True, description="rows that a model is run on at once")
    seed: int = Field(0, ge=0, lt=2**64, strict=True, description="which rows are drawn")


class TaskData(Calibration):
    """Data of one model's own task, which the models are run on."""

    labels: str | None = Field(
        None,
        min_length=1,
        description="the column of class numbers, from 0, for classifiers; a language model predicts the next token and needs none",
    )
    samples: int = Field(100, ge=1, lt=2**31, strict=True, description="how many rows are drawn, none twice")


def _calibration(value: Any) -> Any:
    if value is None or isinstance(value, Mapping | Part):
        return value
    return {"data": value}


CalibrationKey = Annotated[
    Calibration | None, BeforeValidator(_calibration, json_schema_input_type=str | Calibration | None)
]
TaskDataKey = Annotated[TaskData | None, BeforeValidator(_calibration, json_schema_input_type=str | TaskData | None)]
