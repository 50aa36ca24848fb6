"""Layers of other llamas in SmolLM2-135M, by MAL: `python -m benchmarks.heterogeneous.language_mal`.

One donor is the base's own fine-tune with its units in another order, the other a small llama that was trained from nothing.  What
does the base bear of either, what does it gain, and what of that would it bear and gain of noise?
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.engine.report import Report
from benchmarks.heterogeneous.language_data import (
    SORTS,
    Sort,
    bits_per_byte,
    blocks_of,
    calibration_blocks,
    probe_blocks,
)
from benchmarks.heterogeneous.language_lines import in_words, numbers
from benchmarks.heterogeneous.language_parents import reordered, smollm2, trained
from benchmarks.heterogeneous.language_settings import FINE_TUNE, LM_SEEDS, SMALL
from benchmarks.heterogeneous.language_shares import SHARES, STAND_INS, Shares
from benchmarks.heterogeneous.options import in_processes, parser
from benchmarks.heterogeneous.saving import save_report
from benchmarks.heterogeneous.tables import RESULTS

if TYPE_CHECKING:
    from torch import Tensor

    from hubmerge.heterogeneous import Assembled

__all__ = ["DONORS", "Row", "main", "mal_table"]

DONORS = ("tuned", "small")

_LABELS = {"tuned": "the fine-tune, reordered", "small": "the small llama"}


@dataclass(frozen=True)
class Row:
    """One line for one seed.  layers: merged in, and tried; None for what is no merge.  drifts: of those that were merged in, of each alone.
    measured: what else is kept in the JSON.
    """

    key: str
    label: str
    bits: Mapping[Sort, float]
    layers: tuple[int, int] | None = None
    drifts: tuple[float, ...] = ()
    seconds: float | None = None
    measured: Any = None

    @property
    def mean(self) -> float:
        """Bits per byte, the mean of the sorts."""
        return statistics.mean(self.bits[sort] for sort in SORTS)


@dataclass(frozen=True)
class _Job:
    cache: Path
    seed: int
    donor: str


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure both donors; the JSON is written anew after each."""
    commands = parser(__doc__)
    commands.set_defaults(seeds=list(LM_SEEDS), processes=1)
    commands.add_argument("--results", type=Path, default=RESULTS, help="folder for the JSON")
    given = commands.parse_args(arguments)
    found: dict[int, dict[str, Row]] = {seed: {} for seed in given.seeds}
    jobs = [_Job(given.cache, seed, donor) for seed in given.seeds for donor in DONORS]
    for job, rows in in_processes(_measured, jobs, given.processes):
        found[job.seed] |= {row.key: row for row in rows}
        save_report("language_mal", mal_table({seed: own for seed, own in found.items() if own}), given.results)


def mal_table(found: Mapping[int, Mapping[str, Row]]) -> Report:
    """A line for each key, a number for each seed, which need not have them all; lost: above the base, in the mean of the sorts."""
    report = Report(
        "language_mal",
        "SmolLM2-135M: layers of other llamas, one by one",
        "Bits per byte on held-out text, less is better. Lost: the mean of both sorts above the base's. Layers: merged in, of those that "
        "have a partner. Drift: of their outputs, each merged alone; the mean, and the largest. The small llama has "
        f"{SMALL.layers} layers for 30 and feed-forward layers of {SMALL.width:,} for 1,536, and was trained from nothing on code, as the "
        "fine-tune was from the base. At a share every layer that has a partner takes as much: of the donor's with its units matched, and, "
        "by the same pairs, of the donor's with its units at random, of its tensors with their entries shuffled (noise), and of zeros "
        f"(nothing). Numbers are those of {in_words(tuple(found))}.",
        ("model", "layers", "drift", *SORTS, "lost", "seconds"),
        {"seeds": list(found), "training": [asdict(FINE_TUNE), asdict(SMALL)], "shares": list(SHARES)},
    )
    for key in dict.fromkeys(key for own in found.values() for key in own):
        rows = [own.get(key) for own in found.values()]
        first = next(row for row in rows if row)
        lost = [row.mean - own["base"].mean if row else None for row, own in zip(rows, found.values(), strict=True)]
        bits = {sort: [row.bits[sort] if row else None for row in rows] for sort in SORTS}
        seconds = [row.seconds if row else None for row in rows]
        report.add(
            (
                first.label,
                " ".join(f"{row.layers[0]}/{row.layers[1]}" if row and row.layers else "-" for row in rows),
                " ".join(_drift(row.drifts) if row else "-" for row in rows),
                *(numbers(bits[sort], ".3f") for sort in SORTS),
                numbers(lost, "+.3f"),
                "-" if first.seconds is None else numbers(seconds, ".0f"),
            ),
            key=key,
            bits=bits,
            lost=lost,
            seconds=seconds,
            drifts=[list(row.drifts) if row else None for row in rows],
            layers=[row.measured if row else None for row in rows],
        )
    return report


def _drift(drifts: Sequence[float]) -> str:
    return f"{statistics.mean(drifts):.3f} ({max(drifts):.3f})" if drifts else "-"


def _measured(job: _Job) -> tuple[Row, ...]:
    return tuple(_rows(job))


def _rows(job: _Job) -> Iterator[Row]:
    from hubmerge.heterogeneous import assemble_from_zoo

    base, tokenizer = smollm2()
    blocks = {sort: blocks_of(sort, tokenizer) for sort in SORTS}
    batches = calibration_blocks(blocks, job.seed)
    other = _donor(job, base, blocks["code"].train)

    def row(key: str, label: str, model: Any, **facts: Any) -> Row:
        bits = {sort: bits_per_byte(model, each.held_out, tokenizer) for sort, each in blocks.items()}
        print(f"seed {job.seed}: {label}: {bits}, {facts}", flush=True)
        return Row(key, label, bits, **facts)

    if job.donor == DONORS[0]:
        yield row("base", "the base, which is its own control", base)
    label = _LABELS[job.donor]
    yield row(job.donor, label, other)
    begun = time.perf_counter()
    made = assemble_from_zoo(base, [other], batches)
    facts = _facts(made)
    yield row(
        f"{job.donor}_drift", f"{label}, drift within 0.1", made.model, seconds=time.perf_counter() - begun, **facts
    )
    if job.donor == "small":
        begun = time.perf_counter()
        made = assemble_from_zoo(base, [other], batches, probe=probe_blocks(blocks, job.seed), choose="best")
        seconds = time.perf_counter() - begun
        yield row("small_best", f"{label}, drift within 0.1, lowest loss", made.model, seconds=seconds, **_facts(made))
    shares = Shares.of(base, other, batches)
    for stand_in in STAND_INS:
        theirs = shares.in_place_of_donor(stand_in, job.seed)
        for share in SHARES:
            model, drifts = shares.merged(theirs, share)
            key, name = f"{job.donor}_{stand_in.key}_{share:g}", f"{label}, share {share:g}, {stand_in.label}"
            yield row(key, name, model, layers=(len(drifts), len(drifts)), drifts=drifts)


def _donor(job: _Job, base: Any, texts: Tensor) -> Any:
    if job.donor == "tuned":
        return reordered(trained(job.cache, FINE_TUNE, job.seed, base, texts), job.seed)
    return trained(job.cache, SMALL, job.seed, base, texts)


def _facts(made: Assembled) -> dict[str, Any]:
    """What a row says of the decisions; of layers without a partner nothing."""
    tried = [each for each in made.decisions if each.donor_layer is not None]
    taken = [each for each in tried if each.accepted]
    return {
        "layers": (len(taken), len(tried)),
        "drifts": tuple(each.drift for each in taken if each.drift is not None),
        "measured": [asdict(each) for each in tried],
    }


if __name__ == "__main__":
    main()
