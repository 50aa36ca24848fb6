"""Layers of a small llama in SmolLM2-135M, by MAL: `python -m benchmarks.heterogeneous.language_mal`.

The donor has four layers for thirty and was trained from nothing, on code alone.  What does the base bear of it, and what does it gain?
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.engine.report import Report
from benchmarks.heterogeneous.language_data import SORTS, bits_per_byte, blocks_of, calibration_blocks
from benchmarks.heterogeneous.language_models import Line, bits_table
from benchmarks.heterogeneous.language_parents import smollm2, trained
from benchmarks.heterogeneous.language_settings import LM_SEEDS, SMALL
from benchmarks.heterogeneous.options import in_processes, parser
from benchmarks.heterogeneous.saving import save_report
from benchmarks.heterogeneous.tables import RESULTS

__all__ = ["ASSEMBLIES", "main"]

_FACTORS = (0.1, 0.3, 0.5)

ASSEMBLIES: tuple[tuple[str, str, Mapping[str, Any]], ...] = (
    ("drift_10", "drift within 0.1", {}),
    ("best", "drift within 0.1, lowest loss", {"choose": "best"}),
)
"""Key, label, arguments of `assemble_from_zoo`; those that choose by loss are given the probe."""


@dataclass(frozen=True)
class _Job:
    cache: Path
    seed: int


@dataclass(frozen=True)
class _Found:
    lines: tuple[Line, ...]
    layers: tuple[tuple[Any, ...], ...]
    loss: float


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the donor's layers one by one, and what is assembled of them."""
    commands = parser(__doc__)
    commands.set_defaults(seeds=list(LM_SEEDS), processes=1)
    commands.add_argument("--results", type=Path, default=RESULTS, help="folder for the JSON")
    given = commands.parse_args(arguments)
    jobs = [_Job(given.cache, seed) for seed in given.seeds]
    done = {job.seed: found for job, found in in_processes(_measured, jobs, given.processes)}
    found = {seed: done[seed] for seed in given.seeds}
    options = {"seeds": given.seeds, "training": asdict(SMALL)}
    save_report("language_mal", _laws_table(found, options), given.results)
    report = bits_table(
        "language_mal",
        "SmolLM2-135M: layers of a small llama, one by one",
        "Bits per byte on held-out text, less is better. The donor has 4 layers for 30, feed-forward layers of 1,024 for 1,536, and was "
        f"trained from nothing on code. Lost: the mean of both sorts above the base's. Numbers are those of seed "
        f"{' and '.join(map(str, given.seeds))}.",
        {seed: each.lines for seed, each in found.items()},
        "base",
        options,
    )
    save_report("language_mal", report, given.results)


def _measured(job: _Job) -> _Found:
    from hubmerge.heterogeneous import assemble_from_zoo
    from hubmerge.heterogeneous.mal_laws import laws

    base, tokenizer = smollm2()
    blocks = {sort: blocks_of(sort, tokenizer) for sort in SORTS}
    donor = trained(job.cache, SMALL, job.seed, base, blocks["code"].train)
    batches, probe = calibration_blocks(blocks, job.seed)

    def line(key: str, label: str, model: Any, seconds: float | None = None) -> Line:
        bits = {sort: bits_per_byte(model, each.held_out, tokenizer) for sort, each in blocks.items()}
        print(f"seed {job.seed}: {label}: {bits}, {seconds or 0:.0f} s", flush=True)
        return Line(key, label, bits, seconds)

    def lines() -> Iterator[Line]:
        yield line("base", "the base, which is its own control", base)
        yield line("donor", "the small llama", donor)
        for key, label, arguments in ASSEMBLIES:
            begun = time.perf_counter()
            labelled = probe if "choose" in arguments else None
            made = assemble_from_zoo(base, [donor], batches, factors=_FACTORS, probe=labelled, **arguments)
            seconds = time.perf_counter() - begun
            taken = ", ".join(f"{each.position}: {each.factor:g}" for each in made.decisions if each.accepted)
            print(f"seed {job.seed}: {label}: {taken or 'nothing'}", flush=True)
            yield line(key, label, made.model, seconds)

    every = tuple(lines())
    curves = laws(base, [donor], batches, factors=_FACTORS, probe=probe)
    assert curves.loss is not None  # there is a probe
    layers = tuple(
        (law.position, law.donor_layer, law.cka, law.similarity, [(p.factor, p.drift, p.loss) for p in law.points])
        for law in curves.curves
        if law.points
    )
    return _Found(every, layers, curves.loss)


def _laws_table(found: Mapping[int, _Found], options: Mapping[str, Any]) -> Report:
    report = Report(
        "language_laws",
        "SmolLM2-135M: what one layer of a small llama does to it",
        "Every layer of the donor in the layer of the base that it is paired with, alone: drift of that layer's output, and how much the "
        "loss of the whole model rises, in nats for a token of the probe, at three shares of the donor.",
        (
            "seed",
            "layer",
            "cka",
            "similarity",
            *(f"drift {factor:g}" for factor in _FACTORS),
            *(f"loss {factor:g}" for factor in _FACTORS),
        ),
        options,
    )
    for seed, each in found.items():
        for position, name, cka, similarity, points in each.layers:
            row = (
                seed,
                position,
                f"{cka:.2f}",
                f"{similarity:.2f}",
                *(f"{drift:.2f}" for _, drift, _ in points),
                *(f"{loss - each.loss:+.3f}" for _, _, loss in points),
            )
            report.add(
                row, seed=seed, position=position, donor_layer=name, cka=cka, similarity=similarity, points=points
            )
    return report


if __name__ == "__main__":
    main()
