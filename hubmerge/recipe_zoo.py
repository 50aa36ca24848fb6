"""The parts of a recipe that only a merge of single layers has: donors found in a catalog, and data with labels to measure on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from hubmerge.errors import shown
from hubmerge.recipe_calibration import Calibration
from hubmerge.recipe_parts import Part

__all__ = ["Probe", "ZooKey", "ZooQuery"]


class ZooQuery(Part):
    """Which models of a catalog become donors, beside those under `models`; adapters and other families never do."""

    catalog: str | None = Field(
        None,
        min_length=1,
        description="the catalog's file, relative to the current folder; default: that of `hubmerge zoo`",
    )
    text: str | None = Field(
        None, description="words that must all occur in the model's name, architecture, task, tags or parents' names"
    )
    licence: str | None = Field(None, description="the licence that the model's card states, like apache-2.0")
    limit: int = Field(8, ge=1, strict=True, description="most donors taken: the first by name that fit the base")


class Probe(Calibration):
    """Data with labels, on which the loss of the whole model is measured."""

    labels: str = Field(min_length=1, description="the column of class numbers, those of the base model, from 0")


def _query(value: Any) -> Any:
    if value is None or isinstance(value, Mapping | Part):
        return value
    if isinstance(value, PurePath):
        return {"catalog": value.as_posix()}
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"zoo is a catalog's file or a mapping, got {shown(value)}")
    return {"catalog": value}


ZooKey = Annotated[ZooQuery | None, BeforeValidator(_query, json_schema_input_type=str | ZooQuery | None)]
