"""What a card says of a merge of unlike models: what was matched, how far, on which data, what it costs, and what to expect."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cards.align_words import how_matched
from cards.markdown import Markup, code, text
from cards.transport_words import carried_limits, carried_matching, carried_remarks
from hubmerge.assembly_record import AssemblyRecord, CalibrationRecord
from hubmerge.assembly_words import depth_line, group_rows, turned_lines

__all__ = ["AssemblyWords", "assembly_words", "data_sentence", "plain_name"]

_INPUTS = {
    "auto": "its inputs in the merge, held at what the models' own inputs give",
    "merged": "its inputs in the merge",
    "parents": "the models' own inputs",
}


@dataclass(frozen=True)
class AssemblyWords:
    """The sentences, and the table of groups: columns and rows of cells.  limits: what to expect of such a merge."""

    matching: Markup
    columns: tuple[Markup, ...]
    rows: tuple[tuple[Markup, ...], ...]
    remarks: tuple[Markup, ...]
    limits: tuple[Markup, ...]


def assembly_words(record: AssemblyRecord | None) -> AssemblyWords | None:
    """The words for a record in which no local path is left; None for a merge of models of one ancestor."""
    if record is None:
        return None
    return AssemblyWords(_matching(record), _columns(record), _rows(record), _remarks(record), _limits(record))


def _matching(record: AssemblyRecord) -> Markup:
    if record.transport is not None:
        return carried_matching(record)
    base, others = record.order[0], record.order[1:]
    matched = how_matched(record, _name(base), _joined([_name(other) for other in others]))
    return Markup(f"{matched} All units of a kind together:")


def _columns(record: AssemblyRecord) -> tuple[Markup, ...]:
    alike = {"weights": "mean cosine", "balanced": "mean similarity", "identity": "mean similarity"}
    mixed = any(row.support is not None for row in group_rows(record))
    done = "aligned" if record.transport is not None else "shared with the base" if mixed else "pairs merged"
    names = [
        "units",
        "groups",
        *map(plain_name, record.order),
        "merge",
        done,
        alike.get(record.align, "mean correlation"),
    ]
    return tuple(text(name) for name in (*names, *(["made of units of one model"] if mixed else [])))


def _rows(record: AssemblyRecord) -> tuple[tuple[Markup, ...], ...]:
    rows = group_rows(record)
    mixed = any(row.support is not None for row in rows)
    return tuple(
        (
            code(row.name),
            *(text(value) for value in (row.groups, *row.units, row.merged, row.shared)),
            text("–" if row.similarity is None else f"{row.similarity:.2f}"),
            *([text("1.0" if row.support is None else f"{row.support:.1f}")] if mixed else []),
        )
        for row in rows
    )


def _whom(record: AssemblyRecord) -> str:
    return ", on every row to those that are sure of their answer" if record.follow == "confident" else ""


def _remarks(record: AssemblyRecord) -> tuple[Markup, ...]:
    found = []
    reasons: dict[str, list[str]] = {}
    for name, reason in record.kept.items():
        reasons.setdefault(reason, []).append(name)
    for reason, names in reasons.items():
        found.append(Markup(f"{_joined([code(name) for name in names[:6]])} kept the order they had: {text(reason)}."))
    for name, tokens in record.tokens.items():
        found.append(
            Markup(
                f"{_name(name)} has another vocabulary: {tokens.shared:,} of its tokens are those of {_name(record.order[0])} by what they "
                f"stand for, {tokens.alone:,} rows stay as they were, and {tokens.left_out:,} tokens of its own are left out."
            )
        )
    found += [Markup(f"Of the tables of positions: {text(told)}.") for told in record.positions.values()]
    found += [text(f"{told[0].upper()}{told[1:]}.") for told in turned_lines(record, plain_name(record.order[0]))]
    if record.fit == "least_squares" and record.inputs is not None:
        ridge = "a ridge chosen for each" if record.ridge == "auto" else f"a ridge of {record.ridge:g}"
        found.append(
            Markup(
                f"Every layer was fitted by least squares to what the models compute{_whom(record)}, on {_INPUTS[record.inputs]}, with {ridge}."
            )
        )
    if record.fit == "regmean":
        whose = (
            ", of every row those of the models that are sure of their answer" if record.follow == "confident" else ""
        )
        found.append(
            Markup(
                "Every layer was merged by RegMean: it has the weights that come nearest to what each model's layer gives on its own "
                f"inputs{whose}, products of two different inputs counted {record.non_diagonal:g} times."
            )
        )
    found += _layers(record)
    if record.calibration is not None:
        found.append(Markup(f"The data for it: {data_sentence(record.calibration, 'without labels')}."))
    if record.labels is not None:
        words = {
            "disjoint": "Its classes are those of all models, one model's after the other's.",
            "shared": "The models have the same classes, and their heads were merged.",
        }
        found.append(Markup(words[record.labels]))
    return (*found, *carried_remarks(record), _cost(record))


def _layers(record: AssemblyRecord) -> list[Markup]:
    """Which layers of models of other depths went with the base's."""
    return [
        Markup(f"{_name(name)} has another depth than the base; {text(depth_line(depth))}.")
        for name, depth in zip(record.order[1:], record.depths, strict=False)
        if depth is not None
    ]


def data_sentence(data: CalibrationRecord, labels: str) -> Markup:
    """Which rows were drawn of which data.  labels: what is to be said of those."""
    pin = f" at commit {code(data.commit[:12])}" if data.commit else ""
    rows = f"{data.samples:,} rows of {text(data.data)}{pin}, column {code(data.column)}"
    return Markup(f"{rows}, {labels}; SHA-256 {code(data.sha256[:16])}")


def _cost(record: AssemblyRecord) -> Markup:
    size = record.cost.parameters / record.base_cost.parameters
    work, least = (
        cost.multiply_adds / record.base_cost.multiply_adds for cost in (record.cost, record.cost_without_zeros)
    )
    zeros = (
        f", of which {work - least:.2f} multiply zeros between units of different models"
        if work - least >= 0.005
        else ""
    )
    return Markup(
        f"It costs {size:.2f} times the parameters of {_name(record.order[0])} and {work:.2f} times its multiply-adds{zeros}."
    )


def _limits(record: AssemblyRecord) -> tuple[Markup, ...]:
    lost = "Models that were trained apart lose something when they become one: expect each of them to be better on its own task"
    limits = [Markup(f"{lost}, and rely on measured numbers only.")]
    if record.transport is not None:
        return carried_limits()
    if record.calibration is not None:
        data = "the calibration data named above; on data unlike it the merge can be worse"
        limits.append(Markup(f"Units were matched and layers fitted on {data}."))
    return tuple(limits)


def plain_name(name: str) -> str:
    """A model's name without the mark of a folder."""
    return name.removeprefix("./")


def _name(name: str) -> Markup:
    return text(plain_name(name))


def _joined(parts: Sequence[Any]) -> str:
    words = [str(part) for part in parts]
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
