"""A language model and its own fine-tune with all units in another order: `python -m benchmarks.heterogeneous.language_models`.

What of the merge with the fine-tune as it was do alignment, least squares and transport bring back?
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.engine.report import Report
from benchmarks.heterogeneous.language_data import SORTS, Sort, bits_per_byte, blocks_of, calibration_blocks
from benchmarks.heterogeneous.language_parents import reordered, smollm2, trained
from benchmarks.heterogeneous.language_settings import CALIBRATION_BLOCKS, FINE_TUNE, HELD_OUT_BLOCKS, LM_SEEDS
from benchmarks.heterogeneous.options import in_processes, parser
from benchmarks.heterogeneous.saving import save_report
from benchmarks.heterogeneous.tables import RESULTS

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["WAYS", "Line", "Way", "bits_table", "main"]

REFERENCE = "reference"
"""The merge with the fine-tune as it was: what is to be had."""


@dataclass(frozen=True)
class Way:
    """One way of merging the base with the reordered fine-tune.  arguments: of `merge_models`."""

    key: str
    label: str
    arguments: Mapping[str, Any]


_PLAIN: Mapping[str, Any] = {"align": "identity", "fit": None}

WAYS: tuple[Way, ...] = (
    Way("average", "average as they stand", _PLAIN),
    Way("activations", "permuted by activations, not the stream", {"align": "activations", "fit": None}),
    Way("activations_all", "permuted by activations", {"align": "activations", "fit": None, "without": ()}),
    Way("weights_all", "permuted by weights", {"align": "weights", "fit": None, "without": ()}),
    Way("average_fit", "not permuted, hubmerge's default fit", {"align": "identity"}),
    Way("pleas", "PLeaS, hubmerge's default: not the stream", {}),
    Way("pleas_all", "PLeaS, the stream permuted too", {"without": ()}),
)


@dataclass(frozen=True)
class Line:
    """One line of the table for one seed.  bits: per byte, by sort of text.  seconds: None for what is no merge."""

    key: str
    label: str
    bits: Mapping[Sort, float]
    seconds: float | None = None


@dataclass(frozen=True)
class _Job:
    cache: Path
    seed: int
    ways: tuple[str, ...]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure every line, seed by seed."""
    commands = parser(__doc__)
    commands.set_defaults(seeds=list(LM_SEEDS), processes=1)
    keys = (*(way.key for way in WAYS), *(key for key, *_ in _TRANSPORTS))
    commands.add_argument("--ways", nargs="+", choices=keys, default=keys)
    commands.add_argument("--results", type=Path, default=RESULTS, help="folder for the JSON")
    given = commands.parse_args(arguments)
    jobs = [_Job(given.cache, seed, tuple(given.ways)) for seed in given.seeds]
    found = {job.seed: lines for job, lines in in_processes(_measured, jobs, given.processes)}
    report = bits_table(
        "language_reordered",
        "SmolLM2-135M: merged with its own fine-tune, whose units stand in another order",
        "Bits per byte on held-out text, less is better; "
        f"{HELD_OUT_BLOCKS} texts of 128 tokens of either sort. The fine-tune is trained on code, then every group of units that can "
        "be permuted is, the stream among them, which changes nothing of what it computes. Lost: the mean of both sorts above that of "
        f"the average with the fine-tune as it was. {2 * CALIBRATION_BLOCKS} texts without labels to align and fit with. "
        f"Numbers are those of seed {' and '.join(map(str, given.seeds))}.",
        {seed: found[seed] for seed in given.seeds},
        REFERENCE,
        {"seeds": given.seeds, "training": asdict(FINE_TUNE)},
    )
    save_report("language_models", report, given.results)


def bits_table(
    name: str,
    title: str,
    explanation: str,
    found: Mapping[int, Sequence[Line]],
    reference: str,
    options: Mapping[str, Any],
) -> Report:
    """A line for each way, a number for each seed; lost: above the line `reference`, in the mean of the sorts."""
    report = Report(name, title, explanation, ("model", *SORTS, "lost", "seconds"), options)
    against = {seed: _mean(next(line for line in lines if line.key == reference)) for seed, lines in found.items()}
    for lines in zip(*found.values(), strict=True):
        lost = [_mean(line) - against[seed] for seed, line in zip(found, lines, strict=True)]
        seconds = [line.seconds for line in lines if line.seconds is not None]
        row = (
            lines[0].label,
            *(" ".join(f"{line.bits[sort]:.3f}" for line in lines) for sort in SORTS),
            " ".join(f"{each:+.3f}" for each in lost),
            f"{statistics.mean(seconds):.0f}" if seconds else "-",
        )
        bits = {sort: [line.bits[sort] for line in lines] for sort in SORTS}
        report.add(row, key=lines[0].key, bits=bits, lost=lost, seconds=seconds)
    return report


def _mean(line: Line) -> float:
    return statistics.mean(line.bits[sort] for sort in SORTS)


def _measured(job: _Job) -> tuple[Line, ...]:
    return tuple(_lines(job))


def _lines(job: _Job) -> Iterator[Line]:
    from hubmerge.heterogeneous import merge_models

    base, tokenizer = smollm2()
    blocks = {sort: blocks_of(sort, tokenizer) for sort in SORTS}
    tuned = trained(job.cache, FINE_TUNE, job.seed, base, blocks["code"].train)
    other = reordered(tuned, job.seed)
    batches, _ = calibration_blocks(blocks, job.seed)

    def line(key: str, label: str, make: Callable[[], Any], *, is_merge: bool = True) -> Line:
        begun = time.perf_counter()
        model = make()
        seconds = time.perf_counter() - begun if is_merge else None
        bits = {sort: bits_per_byte(model, each.held_out, tokenizer) for sort, each in blocks.items()}
        print(f"seed {job.seed}: {label}: {bits}, {seconds or 0:.0f} s", flush=True)
        return Line(key, label, bits, seconds)

    yield line("base", "the base", lambda: base, is_merge=False)
    yield line("tuned", "the fine-tune", lambda: tuned, is_merge=False)
    yield line("other", "the fine-tune, reordered", lambda: other, is_merge=False)
    yield line(
        REFERENCE, "average with the fine-tune as it was", lambda: merge_models([base, tuned], [], **_PLAIN).model
    )
    for way in WAYS:
        if way.key in job.ways:
            yield line(way.key, way.label, _merged(base, other, batches, job.seed, way.arguments))
    for key, label, arguments in _TRANSPORTS:
        if key in job.ways:
            moved = reordered(base, job.seed)
            yield line(key, label, _carried(base, moved, other, batches, job.seed, arguments))


_TRANSPORTS: tuple[tuple[str, str, Mapping[str, Any]], ...] = (
    ("transport", "half of the task vector transported by activations, not the stream", {}),
    ("transport_all", "half of the task vector transported by activations", {"without": ()}),
)
"""What the reordered fine-tune learned on top of the reordered base, carried to the base; half of it is what an average takes."""


def _merged(
    base: Any, other: Any, batches: Sequence[Mapping[str, Tensor]], seed: int, arguments: Mapping[str, Any]
) -> Callable[[], Any]:
    from hubmerge.heterogeneous import merge_models

    return lambda: merge_models([base, other], batches, seed=seed, **arguments).model


def _carried(
    base: Any, moved: Any, other: Any, batches: Sequence[Mapping[str, Tensor]], seed: int, arguments: Mapping[str, Any]
) -> Callable[[], Any]:
    from hubmerge.heterogeneous import Donor, transport_deltas

    return lambda: transport_deltas(base, [Donor(other, moved, 0.5)], batches, seed=seed, **arguments).model


if __name__ == "__main__":
    main()
