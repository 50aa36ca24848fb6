"""What was measured of language models, line by line and seed by seed: the table, and the lines of one that was left earlier."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from benchmarks.engine.report import Report
from benchmarks.heterogeneous.language_data import SORTS, Sort
from benchmarks.heterogeneous.saving import measured_by

__all__ = ["Line", "Lines", "bits_table", "compared", "in_words", "lines_of", "read_back"]


@dataclass(frozen=True)
class Line:
    """One line of the table for one seed.  bits: per byte, by sort of text.  seconds: None for what is no merge."""

    key: str
    label: str
    bits: Mapping[Sort, float]
    seconds: float | None = None

    @property
    def mean(self) -> float:
        """Bits per byte, the mean of the sorts."""
        return sum(self.bits[sort] for sort in SORTS) / len(SORTS)


Lines = Mapping[int, Mapping[str, Line]]
"""Seed -> key -> line; a seed need not have them all."""


def bits_table(
    name: str,
    title: str,
    explanation: str,
    found: Lines,
    keys: Iterable[str],
    reference: str,
    options: Mapping[str, Any],
) -> Report:
    """A line for each of `keys` that was measured, a number for each seed; lost: above the line `reference`, in the mean of the sorts."""
    report = Report(name, title, explanation, ("model", *SORTS, "lost", "seconds"), options)
    for key, lines, cells, measured in compared(found, keys, reference):
        label = next(line.label for line in lines if line)
        report.add((label, *cells), key=key, **measured)
    return report


Own = TypeVar("Own", bound=Line)


def compared(
    found: Mapping[int, Mapping[str, Own]], keys: Iterable[str], reference: str
) -> Iterator[tuple[str, list[Own | None], tuple[str, ...], dict[str, Any]]]:
    """For each of `keys` that was measured: it, its lines seed by seed, the cells of bits, lost and seconds, and the numbers in them."""
    for key in keys:
        lines = [own.get(key) for own in found.values()]
        first = next((line for line in lines if line), None)
        if first is None:
            continue
        bits = {sort: [line.bits[sort] if line else None for line in lines] for sort in SORTS}
        lost = [
            line.mean - own[reference].mean if line else None for line, own in zip(lines, found.values(), strict=True)
        ]
        seconds = [line.seconds if line else None for line in lines]
        each = "-" if first.seconds is None else _numbers(seconds, ".0f")
        cells = (*(_numbers(bits[sort], ".3f") for sort in SORTS), _numbers(lost, "+.3f"), each)
        yield key, lines, cells, {"bits": bits, "lost": lost, "seconds": seconds}


def _numbers(values: Iterable[float | None], form: str) -> str:
    """One number for each seed, "-" where it was not measured."""
    return " ".join("-" if value is None else f"{value:{form}}" for value in values)


def in_words(seeds: Sequence[int]) -> str:
    """Seed 0; seeds 0 and 1; seeds 0, 1 and 2."""
    *others, last = map(str, seeds)
    return f"seeds {', '.join(others)} and {last}" if others else f"seed {last}"


def lines_of(content: Mapping[str, Any]) -> dict[int, dict[str, Line]]:
    """The lines of a JSON of `bits_table`."""
    found: dict[int, dict[str, Line]] = {}
    for place, seed in enumerate(content["options"]["seeds"]):
        own = found.setdefault(seed, {})
        for row, measured in zip(content["rows"], content["measurements"], strict=True):
            bits = {sort: measured["bits"][sort][place] for sort in SORTS}
            if None not in bits.values():
                seconds = measured["seconds"][place] if measured["seconds"] else None
                own[measured["key"]] = Line(measured["key"], row[0], bits, seconds)
    return found


def read_back(
    path: Path,
    seeds: Sequence[int],
    options: Mapping[str, Any],
    lines: Callable[[Mapping[str, Any]], Mapping[int, Mapping[str, Own]]],
) -> tuple[dict[int, dict[str, Own]], list[dict[str, Any]]]:
    """What a JSON has of `seeds`, and when and with what it was measured, see `measured_by`; nothing where there is none.

    options: those that it must have been measured with.  lines: reads it.  Raises ValueError where it was measured with others.
    """
    if not path.exists():
        return {seed: {} for seed in seeds}, []
    content = json.loads(path.read_text(encoding="utf-8"))
    if any(content["options"].get(what) != value for what, value in options.items()):
        raise ValueError(f"{path} holds lines of another training: measure all of it")
    earlier = lines(content)
    found = {seed: dict(earlier.get(seed, {})) for seed in seeds}
    return found, measured_by(content, {seed: list(own) for seed, own in found.items()})
