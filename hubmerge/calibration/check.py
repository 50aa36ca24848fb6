"""`check_calibration`: everything that can be told of a calibration set before weights are read, without torch."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from hubmerge.calibration.columns import chosen_column
from hubmerge.calibration.files import DataFiles, find_files
from hubmerge.calibration.hub_rows import HubData, find_dataset
from hubmerge.calibration.local_rows import columns_of, rows_of
from hubmerge.calibration.model_side import check_kind, check_pixels, kinds_taken, longest_text
from hubmerge.calibration.samples import Kind, Row, is_blank, kind_of, sample_of
from hubmerge.errors import PlanError, shown
from hubmerge.recipe_calibration import Calibration
from zoo_index.hub import ModelSource

__all__ = ["CalibrationFacts", "Located", "check_calibration", "fewer_note", "kind_of_first", "locate", "most_samples"]


@dataclass(frozen=True)
class CalibrationFacts:
    """What a calibration set is, before it is drawn.

    kind: what its rows are, None where only reading it tells.  column: where they stand.  samples: how many will be drawn, None
    where that is not told.  commit: of a dataset on the Hub; given to `open_calibration` it is the one that is read.
    notes: what a person would want to know.
    """

    kind: Kind | None
    column: str
    samples: int | None
    commit: str | None
    notes: tuple[str, ...]


def most_samples(asked: Calibration, facts: CalibrationFacts | None) -> int:
    """How many samples are drawn, or may be where the data does not tell how many it has."""
    return asked.samples if facts is None or facts.samples is None else facts.samples


@dataclass(frozen=True)
class Located:
    """Where the rows come from, and which column of them: local files, or else a dataset on the Hub."""

    files: DataFiles | None
    dataset: HubData | None
    column: str


def check_calibration(
    calibration: Calibration, source: ModelSource, config: Mapping[str, Any], commit: str | None = None
) -> CalibrationFacts:
    """Look at the data and at what the base model (its files `source`, its `config`) can be given.

    Of local data at most `calibration.samples` rows are read, of a dataset on the Hub none.  commit: of the dataset, when it is
    known.  Raises `PlanError` when the data is missing, has no such column or nothing in it, or when the model cannot be given
    it; `HubError` when the Hub refuses.
    """
    found = locate(calibration, kinds_taken(source), commit)
    if found.dataset is not None:
        kind, there = found.dataset.columns.get(found.column), found.dataset.rows
        if kind is not None:
            check_kind(kind, source, config)
        if there == 0:
            raise _nothing(calibration, found.column)
    else:
        assert found.files is not None
        rows = (row for row in rows_of(found.files, found.column) if not is_blank(row.value))
        first = next(rows, None)
        kind = kind_of_first(first, calibration, found.column)
        check_kind(kind, source, config)
        assert first is not None
        check_pixels([sample_of(first, kind, found.files.root)], kind, config)
        there = 1 + sum(1 for _ in islice(rows, calibration.samples - 1))
    notes = [] if there is None else fewer_note(calibration, there)
    limit = longest_text(config)
    if kind == "text" and limit is not None and limit < calibration.max_length:
        notes.append(f"calibration: texts are cut at {limit} tokens, which is all that the base model takes")
    samples = None if there is None else min(there, calibration.samples)
    commit = found.dataset.commit if found.dataset else None
    return CalibrationFacts(kind, found.column, samples, commit, tuple(notes))


def locate(calibration: Calibration, takes: Collection[Kind], commit: str | None) -> Located:
    """Find the data and choose the column; takes: what the model can be given.  Raises as `check_calibration` does."""
    files = find_files(calibration)
    if files is not None:
        return Located(files, None, chosen_column(columns_of(files), calibration.column, takes, calibration.data))
    dataset = find_dataset(calibration, commit)
    if dataset.columns or calibration.column is None:
        column = chosen_column(tuple(dataset.columns), calibration.column, takes, calibration.data)
    else:
        column = calibration.column  # whether it is there shows when the first row arrives
    return Located(None, dataset, column)


def kind_of_first(first: Row | None, calibration: Calibration, column: str) -> Kind:
    """What the first row is; `PlanError` when there is none, or when it is nothing for a model."""
    if first is None:
        raise _nothing(calibration, column)
    kind = kind_of(first.value)
    if kind is None:
        message = f"column {column!r} of {calibration.data} holds neither texts nor images: {shown(first.value)}"
        raise PlanError(message, where="calibration.column", hint="name another column")
    return kind


def fewer_note(calibration: Calibration, there: int) -> list[str]:
    """What to say where there are fewer samples than asked for."""
    if there >= calibration.samples:
        return []
    return [f"calibration: {calibration.data} has {there:,} of the {calibration.samples:,} samples that were asked for"]


def _nothing(calibration: Calibration, column: str) -> PlanError:
    message = f"{calibration.data} has nothing in column {column!r}"
    return PlanError(message, where="calibration.data", hint="name other data, or another column")
