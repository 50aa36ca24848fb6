"""Layers of other llamas in SmolLM2-135M, by MAL: `python -m benchmarks.heterogeneous.language_mal`.

One donor is the base's own fine-tune with its units in another order, the other a small llama that was trained from nothing.  What
does the base bear of either, what does it gain, and what of that would it bear and gain of noise?
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.engine.report import Report
from benchmarks.heterogeneous.language_data import (
    SORTS,
    Blocks,
    Sort,
    bits_per_byte,
    blocks_of,
    calibration_blocks,
    probe_blocks,
)
from benchmarks.heterogeneous.language_lines import Line, compared, in_words, lines_of, read_back
from benchmarks.heterogeneous.language_parents import reordered, smollm2, trained
from benchmarks.heterogeneous.language_settings import FINE_TUNE, MAL_SEEDS, SMALL
from benchmarks.heterogeneous.language_shares import SHARES, STAND_INS, Shares, StandIn
from benchmarks.heterogeneous.options import in_processes, parser
from benchmarks.heterogeneous.saving import save_report
from benchmarks.heterogeneous.tables import RESULTS

if TYPE_CHECKING:
    from torch import Tensor

    from hubmerge.heterogeneous import Assembled

__all__ = ["DONORS", "Row", "main", "mal_table", "rows_of"]

DONORS = ("tuned", "small")
_PARTS = ("assembled", "shares")
_NAME = "language_mal"

_LABELS = {"tuned": "the fine-tune, reordered", "small": "the small llama"}


@dataclass(frozen=True)
class Row(Line):
    """One line for one seed.  layers: merged in, and tried; None for what is no merge.  drifts: of those that were merged in, of each alone.
    measured: what else is kept in the JSON.
    """

    layers: tuple[int, int] | None = None
    drifts: tuple[float, ...] = ()
    measured: Any = None


@dataclass(frozen=True)
class _Job:
    cache: Path
    seed: int
    donor: str
    part: str

    @property
    def keys(self) -> tuple[str, ...]:
        """Of the lines that come of it."""
        if self.part == "shares":
            return tuple(_share_key(self.donor, stand_in, share) for stand_in in STAND_INS for share in SHARES)
        own = (self.donor, f"{self.donor}_drift")
        return ("base", *own) if self.donor == DONORS[0] else (*own, f"{self.donor}_best")


def _share_key(donor: str, stand_in: StandIn, share: float) -> str:
    return f"{donor}_{stand_in.key}_{share:g}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what MAL makes of both donors, then their shares; the JSON is written anew after each."""
    commands = parser(__doc__)
    commands.set_defaults(seeds=list(MAL_SEEDS), processes=1)
    commands.add_argument("--results", type=Path, default=RESULTS, help="folder for the JSON")
    commands.add_argument("--keep", action="store_true", help="lines that the JSON has are not measured again")
    given = commands.parse_args(arguments)
    found: dict[int, dict[str, Row]] = {seed: {} for seed in given.seeds}
    kept: list[dict[str, Any]] = []
    if given.keep:
        found, kept = read_back(given.results / f"{_NAME}.json", given.seeds, _options(), rows_of)
    jobs = [_Job(given.cache, seed, donor, part) for seed in given.seeds for part in _PARTS for donor in DONORS]
    jobs = [job for job in jobs if not found[job.seed].keys() >= set(job.keys)]
    for job, rows in in_processes(_measured, jobs, given.processes):
        found[job.seed] |= {row.key: row for row in rows}
        report = mal_table({seed: own for seed, own in found.items() if own})
        save_report("language_mal", report, given.results, kept=kept)


def _options() -> dict[str, Any]:
    return {"training": [asdict(FINE_TUNE), asdict(SMALL)], "shares": list(SHARES)}


def mal_table(found: Mapping[int, Mapping[str, Row]]) -> Report:
    """A line for each key, a number for each seed, which need not have them all; lost: above the base, in the mean of the sorts."""
    report = Report(
        _NAME,
        "SmolLM2-135M: layers of other llamas, one by one",
        "Bits per byte on held-out text, less is better. Lost: the mean of both sorts above the base's. Layers: merged in, of those that "
        "have a partner on eight texts without labels. Drift: of their outputs, each merged alone; the mean, and the largest. The small "
        f"llama has {SMALL.layers} layers for 30 and feed-forward layers of {SMALL.width:,} for 1,536, and was trained from nothing on code, as the "
        "fine-tune was from the base. At a share every layer that has a partner takes as much: of the donor's with its units matched, and, "
        "by the same pairs, of the donor's with its units at random, of its tensors with their entries shuffled (noise), and of zeros "
        f"(nothing). Numbers are those of {in_words(tuple(found))}.",
        ("model", "layers", "drift", *SORTS, "lost", "seconds"),
        {"seeds": list(found), **_options()},
    )
    keys = dict.fromkeys(key for own in found.values() for key in own)
    for key, rows, cells, measured in compared(found, keys, "base"):
        first = next(row for row in rows if row)
        report.add(
            (
                first.label,
                " ".join(f"{row.layers[0]}/{row.layers[1]}" if row and row.layers else "-" for row in rows),
                " ".join(_drift(row.drifts) if row else "-" for row in rows),
                *cells,
            ),
            key=key,
            **measured,
            drifts=[list(row.drifts) if row else None for row in rows],
            layers=[row.measured if row else None for row in rows],
        )
    return report


def rows_of(content: Mapping[str, Any]) -> dict[int, dict[str, Row]]:
    """The lines of a JSON of `mal_table`."""
    found: dict[int, dict[str, Row]] = {}
    for place, (seed, lines) in enumerate(lines_of(content).items()):
        own = found.setdefault(seed, {})
        for row, measured in zip(content["rows"], content["measurements"], strict=True):
            if (line := lines.get(measured["key"])) is not None:
                merged, _, tried = row[1].split()[place].partition("/")
                layers = (int(merged), int(tried)) if tried else None
                drifts = tuple(measured["drifts"][place])
                own[line.key] = Row(**vars(line), layers=layers, drifts=drifts, measured=measured["layers"][place])
    return found


def _drift(drifts: Sequence[float]) -> str:
    return f"{statistics.mean(drifts):.3f} ({max(drifts):.3f})" if drifts else "-"


@dataclass(frozen=True)
class _Bench:
    """What the lines of a donor share.  batches: eight texts without labels, to match with and to measure drifts on."""

    base: Any
    donor: Any
    tokenizer: Any
    blocks: Mapping[Sort, Blocks]
    batches: Sequence[Mapping[str, Tensor]]

    def row(self, key: str, label: str, model: Any, **facts: Any) -> Row:
        """A line, printed; facts: of `Row`."""
        bits = {sort: bits_per_byte(model, each.held_out, self.tokenizer) for sort, each in self.blocks.items()}
        print(f"{label}: {bits}, {facts}", flush=True)
        return Row(key, label, bits, **facts)


@cache
def _base() -> tuple[Any, Any]:
    return smollm2()


@cache
def _bench(folder: Path, seed: int, donor: str) -> _Bench:
    base, tokenizer = _base()
    blocks = {sort: blocks_of(sort, tokenizer) for sort in SORTS}
    other = _donor(folder, seed, donor, base, blocks["code"].train)
    return _Bench(base, other, tokenizer, blocks, calibration_blocks(blocks, seed)[:1])


def _donor(folder: Path, seed: int, donor: str, base: Any, texts: Tensor) -> Any:
    if donor == "tuned":
        return reordered(trained(folder, FINE_TUNE, seed, base, texts), seed)
    return trained(folder, SMALL, seed, base, texts)


def _measured(job: _Job) -> tuple[Row, ...]:
    bench = _bench(job.cache, job.seed, job.donor)
    return tuple(_assembled(job, bench) if job.part == "assembled" else _in_shares(job, bench))


def _assembled(job: _Job, bench: _Bench) -> Iterator[Row]:
    """The base before the first donor, the donor, and what MAL makes of it."""
    from hubmerge.heterogeneous import assemble_from_zoo

    if job.donor == DONORS[0]:
        yield bench.row("base", "the base, which is its own control", bench.base)
    label = _LABELS[job.donor]
    yield bench.row(job.donor, label, bench.donor)
    begun = time.perf_counter()
    made = assemble_from_zoo(bench.base, [bench.donor], bench.batches)
    facts = {"seconds": time.perf_counter() - begun, **_facts(made)}
    yield bench.row(f"{job.donor}_drift", f"{label}, drift within 0.1", made.model, **facts)
    if job.donor == "small":
        probe = probe_blocks(bench.blocks, job.seed)
        begun = time.perf_counter()
        made = assemble_from_zoo(bench.base, [bench.donor], bench.batches, probe=probe, choose="best")
        facts = {"seconds": time.perf_counter() - begun, **_facts(made)}
        yield bench.row("small_best", f"{label}, drift within 0.1, lowest loss", made.model, **facts)


def _in_shares(job: _Job, bench: _Bench) -> Iterator[Row]:
    """Every layer with one share, of the donor and of what stands in for it."""
    shares = Shares.of(bench.base, bench.donor, bench.batches)
    for stand_in in STAND_INS:
        theirs = shares.in_place_of_donor(stand_in, job.seed)
        for share in SHARES:
            model, drifts = shares.merged(theirs, share)
            key = _share_key(job.donor, stand_in, share)
            label = f"{_LABELS[job.donor]}, share {share:g}, {stand_in.label}"
            yield bench.row(key, label, model, layers=(len(drifts), len(drifts)), drifts=drifts)


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
