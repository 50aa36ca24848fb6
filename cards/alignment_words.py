"""What a card says of models that were brought into one order before they were merged."""

from __future__ import annotations

from dataclasses import dataclass

from cards.align_words import PAIRED
from cards.assembly_words import plain_name
from cards.markdown import Markup, code, text
from hubmerge.alignment.words import how_aligned
from hubmerge.alignment_record import AlignmentRecord

__all__ = ["AlignmentWords", "alignment_words"]


@dataclass(frozen=True)
class AlignmentWords:
    """The sentences: what was done, and what came of it for each model."""

    matching: Markup
    lines: tuple[Markup, ...]


def alignment_words(record: AlignmentRecord | None) -> AlignmentWords | None:
    """The words for a record in which no local path is left; None for models that were merged as they were."""
    if record is None:
        return None
    parents = tuple(each.model_copy(update={"reference": plain_name(each.reference)}) for each in record.parents)
    record = record.model_copy(update={"base_model": plain_name(record.base_model), "parents": parents})
    matching = Markup(
        f"The units of the other models were brought into the order of {text(record.base_model)} first, {PAIRED[record.method]}."
    )
    lines = [text(f"{sentence}.") for sentence in how_aligned(record)]
    if record.calibration is not None:
        data = record.calibration
        pin = f" at commit {code(data.commit[:12])}" if data.commit else ""
        what = "Matched on" if record.method == "activations" else "BatchNorm's statistics were estimated anew on"
        again = (
            ", on which BatchNorm's statistics were estimated anew"
            if record.statistics and record.method == "activations"
            else ""
        )
        lines.append(
            Markup(
                f"{what} {data.samples:,} rows of {text(data.data)}{pin}, column {code(data.column)}, without labels{again}; SHA-256 "
                f"{code(data.sha256[:16])}."
            )
        )
    return AlignmentWords(matching, tuple(lines))
