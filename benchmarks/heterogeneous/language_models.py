"""A language model and its own fine-tune with all units in another order: `python -m benchmarks.heterogeneous.language_models`.

What of the merge with the fine-tune as it was do alignment, least squares and transport bring back?
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.heterogeneous.language_data import SORTS, Blocks, Sort, bits_per_byte, blocks_of, calibration_blocks
from benchmarks.heterogeneous.language_lines import Line, bits_table, in_words, lines_of, read_back
from benchmarks.heterogeneous.language_parents import reordered, smollm2, trained
from benchmarks.heterogeneous.language_settings import BLOCK, CALIBRATION_BLOCKS, FINE_TUNE, HELD_OUT_BLOCKS, LM_SEEDS
from benchmarks.heterogeneous.options import in_processes, parser
from benchmarks.heterogeneous.saving import save_report
from benchmarks.heterogeneous.tables import RESULTS

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["TRANSPORTS", "WAYS", "Way", "main"]

_NAME = "language_reordered"
REFERENCE = "reference"
"""The merge with the fine-tune as it was: what is to be had."""


@dataclass(frozen=True)
class Way:
    """One way of merging the base with the reordered fine-tune.  arguments: of `merge_models`, or of `transport_deltas`."""

    key: str
    label: str
    arguments: Mapping[str, Any]


_PLAIN: Mapping[str, Any] = {"align": "identity", "fit": None}

WAYS: tuple[Way, ...] = (
    Way("average", "average as they stand", _PLAIN),
    Way("activations_all", "permuted by activations", {"align": "activations", "fit": None, "without": ()}),
    Way("weights_all", "permuted by weights", {"align": "weights", "fit": None, "without": ()}),
    Way(
        "activations",
        "permuted by activations, not the stream",
        {"align": "activations", "fit": None, "residual": "keep"},
    ),
    Way("turned", "permuted by activations, the stream turned by weights", {"align": "activations", "fit": None}),
    Way("turned_weights", "permuted by weights, the stream turned too", {"align": "weights", "fit": None}),
    Way("average_fit", "not permuted, hubmerge's default fit", {"align": "identity"}),
    Way("pleas", "PLeaS, not the stream", {"residual": "keep"}),
    Way("pleas_all", "PLeaS, the stream permuted too", {"without": ()}),
    Way("pleas_turned", "PLeaS, hubmerge's default: the stream turned", {}),
)

TRANSPORTS: tuple[Way, ...] = (
    Way("transport_all", "half of the task vector transported by activations", {"without": ()}),
    Way("transport", "half of the task vector transported by activations, not the stream", {"residual": "keep"}),
)
"""What the reordered fine-tune learned on top of the reordered base, carried to the base; half of it is what an average takes."""

_MODELS = ("base", "tuned", "other", REFERENCE)
_KEYS = (
    *("average", "activations_all", "transport_all", "weights_all", "turned", "turned_weights", "pleas", "pleas_all"),
    *("pleas_turned", "average_fit", "activations", "transport"),
)
"""In the order in which they are measured."""


@dataclass(frozen=True)
class _Job:
    cache: Path
    seed: int
    key: str


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure every line; the JSON is written anew after each, so that what is done is kept."""
    commands = parser(__doc__)
    commands.set_defaults(seeds=list(LM_SEEDS), processes=1)
    commands.add_argument("--ways", nargs="+", choices=_KEYS, default=_KEYS, help="beside the models themselves")
    commands.add_argument("--results", type=Path, default=RESULTS, help="folder for the JSON")
    commands.add_argument("--keep", action="store_true", help="the lines that the JSON has stay")
    given = commands.parse_args(arguments)
    path = given.results / f"{_NAME}.json"
    training = {"training": asdict(FINE_TUNE)}
    found: dict[int, dict[str, Line]] = {seed: {} for seed in given.seeds}
    kept: list[dict[str, Any]] = []
    if given.keep:
        found, kept = read_back(path, given.seeds, training, lines_of)
    keys = [*_MODELS, *(key for key in _KEYS if key in given.ways or any(key in own for own in found.values()))]
    jobs = [_Job(given.cache, seed, key) for key in keys for seed in given.seeds if key not in found[seed]]
    for job, line in in_processes(_measured, jobs, given.processes):
        found[job.seed][job.key] = line
        print(f"seed {job.seed}: {line.label}: {line.bits}, {line.seconds or 0:.0f} s", flush=True)
        if any(key not in own for own in found.values() for key in _MODELS):
            continue
        report = bits_table(
            _NAME,
            "SmolLM2-135M: merged with its own fine-tune, whose units stand in another order",
            "Bits per byte on held-out text, less is better; "
            f"{HELD_OUT_BLOCKS} texts of {BLOCK} tokens of either sort. The fine-tune is trained on code, then every group of units that "
            "can be permuted is, the stream among them, which changes nothing of what it computes. Lost: the mean of both sorts above "
            f"that of the average with the fine-tune as it was. {2 * CALIBRATION_BLOCKS} texts without labels to align and fit with. "
            f"Numbers are those of {in_words(given.seeds)}.",
            found,
            keys,
            REFERENCE,
            {"seeds": given.seeds, **training},
        )
        save_report("language_models", report, given.results, kept=kept)


@dataclass(frozen=True)
class _Bench:
    """What the lines of a seed share: models, tokenizer and texts."""

    base: Any
    tuned: Any
    other: Any
    tokenizer: Any
    blocks: Mapping[Sort, Blocks]


@lru_cache(maxsize=1)  # a seed's models take 1.6 GB
def _bench(folder: Path, seed: int) -> _Bench:
    base, tokenizer = smollm2()
    blocks = {sort: blocks_of(sort, tokenizer) for sort in SORTS}
    tuned = trained(folder, FINE_TUNE, seed, base, blocks["code"].train)
    return _Bench(base, tuned, reordered(tuned, seed), tokenizer, blocks)


def _measured(job: _Job) -> Line:
    bench = _bench(job.cache, job.seed)
    batches = calibration_blocks(bench.blocks, job.seed)
    begun = time.perf_counter()
    label, model = _made(job.key, bench, batches, job.seed)
    seconds = None if job.key in _MODELS and job.key != REFERENCE else time.perf_counter() - begun
    bits = {sort: bits_per_byte(model, each.held_out, bench.tokenizer) for sort, each in bench.blocks.items()}
    return Line(job.key, label, bits, seconds)


def _made(key: str, bench: _Bench, batches: Sequence[Mapping[str, Tensor]], seed: int) -> tuple[str, Any]:
    """The label and the model of a line."""
    from hubmerge.heterogeneous import Donor, merge_models, transport_deltas

    models = {
        "base": ("the base", bench.base),
        "tuned": ("the fine-tune", bench.tuned),
        "other": ("the fine-tune, reordered", bench.other),
    }
    if key in models:
        return models[key]
    if key == REFERENCE:
        return "average with the fine-tune as it was", merge_models([bench.base, bench.tuned], [], **_PLAIN).model
    way = next(way for way in (*WAYS, *TRANSPORTS) if way.key == key)
    if way in TRANSPORTS:
        donor = Donor(bench.other, reordered(bench.base, seed), 0.5)
        return way.label, transport_deltas(bench.base, [donor], batches, seed=seed, **way.arguments).model
    return way.label, merge_models([bench.base, bench.other], batches, seed=seed, **way.arguments).model


if __name__ == "__main__":
    main()
