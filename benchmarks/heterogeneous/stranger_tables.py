"""What was measured between tiny language models as tables: the lines of a part, and the differences of two lines seed by seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Literal

from benchmarks.engine.report import Report
from benchmarks.heterogeneous.language_data import SORTS, Sort
from benchmarks.heterogeneous.stranger_rows import CARRIED, CONTROLS, MERGED, PAIRS, TARGETS, Part
from benchmarks.heterogeneous.stranger_settings import (
    CALIBRATION_PIECES,
    HELD_OUT_PIECES,
    PIECE,
    STRANGERS,
    TRAININGS,
    Architecture,
)
from benchmarks.heterogeneous.tables import mean_of, standard_error_of, summary

__all__ = ["Found", "compared_table", "labels_of", "loss_table"]

Found = Mapping[Architecture, Mapping[int, Mapping[str, Mapping[Sort, float]]]]
"""Architecture -> seed -> key of a line -> nats per character of either sort of text; the lines of one part."""

Losses = Mapping[Architecture, Mapping[int, Mapping[Sort, float]]]
"""The same of one line, or of what it has more than another."""

_FAMILIES: Mapping[Architecture, str] = {"llama": "Llama", "gpt2": "GPT-2"}

_TITLES: Mapping[Part, str] = {
    "merged": "Tiny language models of other random weights: merged",
    "carried": "Tiny language models: what was learned on another base, carried",
}
_WORDS: Mapping[Part, str] = {
    "merged": (
        "The base was trained on Python code, the other from other random weights on code and then on prose. Fitted: hubmerge's default fit."
    ),
    "carried": (
        "The target was trained on Python code; the sibling's own base from the target's weights on more code, the stranger's and the wide "
        "stranger's, 96 wide, from other random weights on code. Each then learned prose on top of its own base, which is the task vector."
    ),
}


def labels_of(part: Part) -> dict[str, str]:
    """The lines of a part: key -> what readers see, in the table's order."""
    if part == "merged":
        return {**CONTROLS, **{way.key: way.label for way in MERGED}}
    return {**TARGETS, **{carry.key: carry.label for carry in CARRIED}}


def loss_table(part: Part, found: Found) -> Report:
    """A line for each model; found: of every architecture the same seeds."""
    first = "model" if part == "merged" else "what is added to the target"
    report = Report(
        f"strangers_{part}",
        _TITLES[part],
        _explanation(_WORDS[part], found),
        (first, *_columns(found)),
        _options(found),
    )
    for key, label in labels_of(part).items():
        own = {
            architecture: {seed: lines[key] for seed, lines in seeds.items()} for architecture, seeds in found.items()
        }
        _add(report, (label,), {"key": key}, own)
    return report


def compared_table(found: Mapping[Part, Found]) -> Report:
    """A line for each pair of lines: the difference of their losses, seed by seed."""
    first = next(iter(found.values()))
    report = Report(
        "strangers_compared",
        "Tiny language models: the lines of these two tables against one another",
        f"Nats per character that one line has more than another, less than nothing where it is better; the mean of the differences "
        f"± its standard error over {_seeds(first)} seeds.",
        ("line", "against", *_columns(first)),
        _options(first),
    )
    for pair in PAIRS:
        labels = labels_of(pair.part)
        more = {
            architecture: {
                seed: {sort: lines[pair.key][sort] - lines[pair.other][sort] for sort in SORTS}
                for seed, lines in seeds.items()
            }
            for architecture, seeds in found[pair.part].items()
        }
        _add(report, (labels[pair.key], labels[pair.other]), asdict(pair), more, "+")
    return report


def _add(
    report: Report, names: Sequence[str], told: Mapping[str, Any], values: Losses, sign: Literal["", "+"] = ""
) -> None:
    """One line: a cell for each architecture and sort of text, and all the numbers in them."""
    cells: list[str] = []
    measured: dict[str, Any] = {}
    for architecture, seeds in values.items():
        by_sort = {sort: [each[sort] for each in seeds.values()] for sort in SORTS}
        cells += [summary(own, 3, sign) for own in by_sort.values()]
        measured[architecture] = {
            "seeds": {str(seed): each for seed, each in seeds.items()},
            "mean": {sort: mean_of(own) for sort, own in by_sort.items()},
            "standard_error": {sort: standard_error_of(own) for sort, own in by_sort.items()},
        }
    report.add((*names, *cells), **told, **measured)


def _columns(found: Found) -> tuple[str, ...]:
    return tuple(f"{_FAMILIES[architecture]}: {sort}" for architecture in found for sort in SORTS)


def _seeds(found: Found) -> int:
    return len(next(iter(found.values())))


def _options(found: Found) -> dict[str, Any]:
    return {
        "seeds": list(next(iter(found.values()))),
        "strangers": [asdict(each) for each in STRANGERS],
        "trainings": {stage: asdict(training) for stage, training in TRAININGS.items()},
    }


def _explanation(words: str, found: Found) -> str:
    return (
        "Nats per character on held-out text, less is better; mean ± standard error over "
        f"{_seeds(found)} seeds, which differ in all random weights, in the order of training and in the calibration. Models of 2 layers over "
        f"96 characters, 64 wide. {words} {CALIBRATION_PIECES} pieces of {PIECE} characters, half code, half prose, to align and fit with; "
        f"{HELD_OUT_PIECES} of either sort to measure."
    )
