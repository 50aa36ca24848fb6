"""Sens-Merging of the specialists of digits, at several temperatures, beside its inner methods: `python -m benchmarks.coefficients.sens`.

The models are those of `benchmarks.coefficients.digits` with one head, whose answers can be compared.  Every specialist is run on 100 of its training
pictures with their labels; sensitivities and distances are measured once for each seed, and used for all rows.
"""

from __future__ import annotations

import json
import platform
import sys
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_args

import numpy as np

from benchmarks.coefficients.digits import Setting, accuracy, setting_of
from hubmerge import MergedState, merge_state_dicts
from hubmerge.demo.digits import HALVES, load_split
from hubmerge.sensitivity.coefficients import Alignment, cross_task

__all__ = ["main"]

RESULT = Path(__file__).parent / "results" / "sens.json"
SEEDS = (0, 1, 2)
SAMPLES = 100
LAMBDA = 0.7
TEMPERATURES = (1.0, 0.3, 0.1, 0.03, 0.01)
_PLAIN = {"normalize": False, "elect": "plain"}
_INNERS: Mapping[str, Mapping[str, Any]] = {
    "task_arithmetic": {},
    "ties": {"density": 0.5},
    "dare_ties": {"density": 0.5},
}


def _labels(seed: int) -> list[Any]:
    """The labels of each specialist's first training pictures."""
    import torch

    split = load_split(seed)
    return [torch.from_numpy(split.train.only(members).labels[:SAMPLES]) for members in HALVES.values()]


def measured(setting: Setting, seed: int) -> dict[Alignment, dict[int, dict[str, float]]]:
    """Statistics of both specialists, as `merge_state_dicts` takes them, for both ways to count distances."""
    rows = [
        [{"pixel_values": pictures[:SAMPLES], "labels": labels}]
        for pictures, labels in zip(setting.pictures, _labels(seed), strict=True)
    ]
    found = merge_state_dicts("sens_merging", setting.parents, setting.base, calibration=rows)
    assert isinstance(found, MergedState)
    sums: list[dict[str, float]] = []
    for place in range(len(setting.parents)):
        sums.append(dict.fromkeys(found.coefficients, 0.0))
        for layer, row in found.state["sensitivities"].items():
            sums[-1][next(name for name in sums[-1] if name.startswith(f"{layer}."))] = row[place]
    distances = np.array(found.state["distances"])
    return {
        alignment: {
            place: {**own, "cross_task": float(cross_task(distances, alignment)[place])}
            for place, own in enumerate(sums)
        }
        for alignment in get_args(Alignment)
    }


def _rows(setting: Setting, seed: int) -> Iterator[tuple[str, tuple[float, ...], float]]:
    """Every row's name, accuracies on both halves, and the largest coefficient."""
    states, base = [parent.state_dict() for parent in setting.parents], setting.base.state_dict()
    found = measured(setting, seed)
    for inner, own in _INNERS.items():
        shared = {**own, "lambda": LAMBDA}
        plain = {} if inner == "task_arithmetic" else _PLAIN
        merged = merge_state_dicts(inner, states, base, {**shared, **plain}, seed=seed)
        yield inner, accuracy(setting, merged), 1.0
        for alignment, statistics in found.items():
            for temperature in TEMPERATURES:
                parameters = {**shared, "inner": inner, "temperature": temperature, "alignment": alignment}
                merged = merge_state_dicts("sens_merging", states, base, parameters, statistics=statistics, seed=seed)
                assert isinstance(merged, MergedState)
                largest = max(value for row in merged.coefficients.values() for value in row)
                yield (
                    f"sens_merging of {inner}, {alignment}, temperature {temperature:g}",
                    accuracy(setting, merged),
                    largest,
                )


def main(seeds: Sequence[int]) -> None:
    """Measure every seed and write the result; prints every row."""
    warnings.filterwarnings("ignore", message="running statistics")
    found: dict[str, list[dict[str, Any]]] = {}
    for seed in seeds:
        begun = time.perf_counter()
        for row, accuracies, largest in _rows(setting_of(seed, own_heads=False), seed):
            found.setdefault(row, []).append({"seed": seed, "accuracies": accuracies, "largest": round(largest, 4)})
            sys.stdout.write(f"seed {seed}: {row}: {float(np.mean(accuracies)):.4f}\n")
        sys.stdout.write(f"seed {seed}: {time.perf_counter() - begun:.0f} s\n")
        sys.stdout.flush()
    for row, results in found.items():
        mean = float(np.mean([each["accuracies"] for each in results]))
        largest = float(np.mean([each["largest"] for each in results]))
        sys.stdout.write(f"{row}: {mean:.4f} (largest coefficient {largest:.2f})\n")
    versions = {name: version(name) for name in ("torch", "transformers", "numpy", "scikit-learn")}
    content = {"seeds": list(seeds), "rows": found, "versions": versions, "machine": platform.machine()}
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main([int(seed) for seed in sys.argv[1:]] or SEEDS)
