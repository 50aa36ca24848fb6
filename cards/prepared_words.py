"""What a card says of coefficients that were found before the merge: on which data, their range, and a heat map of layers."""

from __future__ import annotations

from cards.assembly_words import AssemblyWords, data_sentence, plain_name
from cards.markdown import Markup, code, text
from hubmerge.prepared_record import PreparedRecord, TaskDataRecord
from hubmerge.prepared_words import layer_rows, prepared_lines

__all__ = ["prepared_words"]


def prepared_words(record: PreparedRecord | None) -> AssemblyWords | None:
    """The words for a record in which no local path is left; None for other merges."""
    if record is None:
        return None
    plain = record.model_copy(update={"parents": tuple(map(plain_name, record.parents))})
    on = ", on data of each model's own task" if record.calibration else ""
    matching = Markup(
        f"Coefficients of every model and layer were found first{on}; the models' changes were then merged by {code(record.inner)} with these "
        "as weights. The fuller a block in the table, the larger the coefficient."
    )
    columns = (text("layer"), *(text(name) for name in plain.parents))
    rows = tuple(
        (
            code(row.layer),
            *(text(f"{shade} {value:.3f}") for shade, value in zip(row.shades, row.coefficients, strict=True)),
        )
        for row in layer_rows(record)
    )
    remarks = [text(f"{line}.") for line in prepared_lines(plain)]
    remarks += [
        Markup(f"{text(name)} was run on {data_sentence(data, _labels(data))}.")
        for name, data in zip(plain.parents, record.calibration, strict=False)
    ]
    limits = (
        (text("The coefficients were found on the data named above; on data unlike it others may be better."),)
        if record.calibration
        else ()
    )
    return AssemblyWords(matching, columns, rows, tuple(remarks), limits)


def _labels(data: TaskDataRecord) -> str:
    return "without labels" if data.labels is None else f"with labels of column {code(data.labels)}"
