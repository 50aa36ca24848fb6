"""All ways of merging six experts, one table for each model and kind of fine-tuning: `python -m benchmarks.text_tasks.compare`.

Experts that are not in the cache are trained first, lines that were measured before are taken from it, and the JSON is written anew after
each seed, so that what is done is kept.  With `--ways` only these are measured; what else was measured before still has its line.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from benchmarks.engine.report import Report
from benchmarks.heterogeneous.saving import save_report
from benchmarks.text_tasks.bench import Bench, bench_of
from benchmarks.text_tasks.measuring import Line, base_line, experts_line, kept, measured
from benchmarks.text_tasks.options import Options, parser, prepared
from benchmarks.text_tasks.packages import versions
from benchmarks.text_tasks.trainings import Base, Training
from benchmarks.text_tasks.ways import SCALES, ways

__all__ = ["BASE", "EXPERTS", "main", "table"]

BASE, EXPERTS = "the base", "the experts, each on its own task"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure every line of every model, seed by seed."""
    commands = parser(__doc__)
    commands.add_argument(
        "--ways", nargs="*", help="keys of lines to measure; none: only write what was measured before"
    )
    given = prepared(commands, arguments)
    for base in given.bases:
        found: dict[str, dict[int, dict[str, Line]]] = {training.kind: {} for training in base.trainings}
        texts = {}
        for seed in given.seeds:
            bench = bench_of(given.cache, base, seed)
            texts[seed] = bench.texts
            for training in base.trainings:
                if lines := _lines(bench, training, given.ways):
                    found[training.kind][seed] = lines
                    _save(given, base, training, texts, found[training.kind])


def table(
    base: Base, training: Training, found: Mapping[int, Mapping[str, Line]], options: Mapping[str, Any]
) -> Report:
    """A line for each way, the best normalised accuracy first; found: seed -> key -> line.  What fewer seeds have names them."""
    kind = "all weights" if training.kind == "full" else f"LoRA of rank {training.rank}"
    tasks = list(next(iter(found.values()))[EXPERTS].score.accuracy)
    report = Report(
        f"{base.name}_{training.kind}",
        f"{base.title}: six experts merged, fine-tuned by {kind}",
        "Accuracy on held-out pieces, per cent; mean of seeds, ± the standard error. Normalised: over that of each task's own expert. Joint: "
        "among the labels of all tasks, nobody says which it is. Scale: of the merged change, chosen on calibration pieces with labels from "
        f"{', '.join(f'{scale:g}' for scale in SCALES)}, one for each seed; at 1: normalised, without that choice. Seconds: of the merge on one "
        "thread, the median; MB: the most its process held, the parents' mapped files among it.",
        ("method", *tasks, "mean", "normalised", "joint", "scale", "at 1", "seconds", "MB"),
        options,
    )
    keys = [*dict.fromkeys(key for lines in found.values() for key in lines)]
    experts = {seed: lines[EXPERTS].score.accuracy for seed, lines in found.items()}

    def normalised(key: str) -> float:
        own = [lines[key].score.normalised(experts[seed]) for seed, lines in found.items() if key in lines]
        return statistics.mean(own)

    first = [key for key in (EXPERTS, BASE) if key in keys]
    for key in (*first, *sorted((key for key in keys if key not in first), key=normalised, reverse=True)):
        of_seeds = {seed: lines[key] for seed, lines in found.items() if key in lines}
        lines = list(of_seeds.values())
        costs = [(line.seconds, line.bytes) for line in lines if line.seconds is not None and line.bytes is not None]
        plain = [line.default.normalised(experts[seed]) for seed, line in of_seeds.items() if line.default is not None]
        row = (
            key if len(of_seeds) == len(found) else f"{key} (seed {' and '.join(map(str, of_seeds))})",
            *(_per_cent([line.score.accuracy[task] for line in lines], error=False) for task in tasks),
            _per_cent([line.score.mean for line in lines]),
            _per_cent([line.score.normalised(experts[seed]) for seed, line in of_seeds.items()]),
            _per_cent([line.score.hits[1] for line in lines]),
            " ".join(f"{line.scale:g}" for line in lines if line.scale is not None) or "-",
            _per_cent(plain) if plain else "-",
            f"{statistics.median(seconds for seconds, _ in costs):.1f}" if costs else "-",
            f"{max(size for _, size in costs) / 1e6:.0f}" if costs else "-",
        )
        report.add(row, key=key, seeds={seed: asdict(line) for seed, line in of_seeds.items()})
    return report


def _lines(bench: Bench, training: Training, wanted: Sequence[str] | None) -> dict[str, Line]:
    """The lines of a seed; none where no way has one."""
    found: dict[str, Line] = {}
    for way in ways(training.kind):
        line = measured(bench, training, way) if wanted is None or way.key in wanted else kept(bench, training, way)
        if line is not None:
            found[way.key] = line
            print(f"{bench.base.name} seed {bench.seed} {way.kind} {way.key}: {line.score.mean:.3f}", flush=True)
    return {BASE: base_line(bench), EXPERTS: experts_line(bench, training), **found} if found else {}


def _save(
    given: Options, base: Base, training: Training, texts: Mapping[int, str], found: Mapping[int, Mapping[str, Line]]
) -> None:
    options = {
        "seeds": list(found),
        "texts": {seed: texts[seed] for seed in found},
        "packages": versions(given.cache),
        "training": asdict(training),
        "tokens": base.tokens,
        "pieces": {"train": base.train, "calibration": base.calibration, "test": base.test},
        "ways": [asdict(way) for way in ways(training.kind)],
    }
    save_report("compare", table(base, training, found, options), given.results, "text_tasks")


def _per_cent(shares: Sequence[float], *, error: bool = True) -> str:
    """The mean, and with more than one seed its standard error."""
    mean = f"{100 * statistics.mean(shares):.1f}"
    if not error or len(shares) < 2:
        return mean
    return f"{mean} ± {100 * statistics.stdev(shares) / len(shares) ** 0.5:.1f}"


if __name__ == "__main__":
    main()
