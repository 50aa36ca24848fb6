"""`open_calibration`: the samples of a calibration set drawn and ready to be given to models."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Any

from hubmerge.calibration.batches import Batches
from hubmerge.calibration.check import Located, fewer_note, kind_of_first, locate
from hubmerge.calibration.draw import drawn
from hubmerge.calibration.hub_rows import hub_rows
from hubmerge.calibration.inputs import preparation
from hubmerge.calibration.local_rows import rows_of
from hubmerge.calibration.model_side import check_kind, check_pixels, kinds_taken
from hubmerge.calibration.samples import Row, is_blank, sample_of
from hubmerge.recipe_calibration import Calibration
from zoo_index.hub import ModelSource

__all__ = ["open_calibration"]


def open_calibration(
    calibration: Calibration, source: ModelSource, config: Mapping[str, Any], commit: str | None = None
) -> Batches:
    """Draw the samples and prepare them with the tokenizer or image processor of the base model.

    source, config: the base model's files and config.json.  commit: of a dataset on the Hub, as `check_calibration` found
    it; None is the one of now.  Local rows are drawn by the seed from all there are and stay in their order; rows of the Hub are
    the first that arrive after shuffling.  Labels are never read.  Raises as `check_calibration` does, and `PlanError` for a
    tokenizer or an image processor that cannot be loaded and for a row unlike the first.
    """
    found = locate(calibration, kinds_taken(source), commit)
    rows = _rows(calibration, found)
    kind = kind_of_first(rows[0] if rows else None, calibration, found.column)
    check_kind(kind, source, config)
    root = found.files.root if found.files is not None else None
    samples = [sample_of(row, kind, root) for row in rows]
    check_pixels(samples, kind, config)
    prepare = preparation(kind, source, config, calibration.max_length)
    return Batches(kind, samples, prepare, calibration.batch, tuple(fewer_note(calibration, len(samples))))


def _rows(calibration: Calibration, found: Located) -> tuple[Row, ...]:
    if found.dataset is not None:
        return tuple(islice(hub_rows(calibration, found.dataset, found.column), calibration.samples))
    assert found.files is not None
    rows = (row for row in rows_of(found.files, found.column) if not is_blank(row.value))
    return drawn(rows, calibration.samples, calibration.seed)
