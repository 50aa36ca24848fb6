"""Time and memory of merging adapters: `python -m benchmarks.adapters.speed`.

Eight adapters of rank 16 on a model of the shape of 7B by KnOTS-TIES, in a process of its own; and the weighted sum of two adapters cut
to their rank, one module of width 2048, beside PEFT's ``svd``.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.engine.measuring import cost_of_command
from benchmarks.engine.report import Report, verdict
from benchmarks.heterogeneous.saving import save_report

__all__ = ["main"]

RESULTS = Path(__file__).parent / "results"
LAYERS, MODULES, WIDTH, ADAPTERS, RANK = 32, 7, 4096, 8, 16
SECONDS, MEMORY = 120.0, 4e9
"""To reach with all layers: two minutes on two cores, four gigabytes."""
FASTER, NARROW = 100.0, 2048
"""To reach: so many times faster than PEFT for a module of this width."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure both."""
    commands = argparse.ArgumentParser(description=__doc__)
    commands.add_argument("--layers", type=int, default=LAYERS, help="fewer for a try")
    commands.add_argument("--width", type=int, default=NARROW, help="of the module that is compared with PEFT's")
    commands.add_argument("--pairs", type=int, default=3)
    commands.add_argument("--results", type=Path, default=RESULTS, help="folder for the JSON")
    given = commands.parse_args(arguments)
    report = Report(
        "speed",
        "Adapters, time and memory",
        f"KnOTS-TIES, density 0.2 with one threshold for a whole adapter: {ADAPTERS} random adapters of rank {RANK} on {given.layers} layers "
        f"of {MODULES} modules, {WIDTH} wide, made, merged at their full rank and held in memory by one process. Sum: two adapters "
        f"of rank {RANK}, one module {given.width} wide, cut to rank {RANK}; PEFT {_peft_version()} in the same process, in turn, "
        f"medians of {given.pairs}, one thread.",
        ("what", "measured", "to reach", ""),
        vars(given) | {"results": None},
    )
    _knots(report, given.layers)
    _sum(report, given.width, given.pairs)
    save_report("speed", report, given.results, "adapters")


def _knots(report: Report, layers: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        cost = cost_of_command([sys.executable, "-m", "benchmarks.adapters.knots", str(layers)], log)
        merging = float(log.read_text(encoding="utf-8").split()[-1])
    whole = layers == LAYERS
    target, reached = verdict(merging, SECONDS if whole else None)
    report.add(("KnOTS-TIES, seconds", f"{merging:.1f}", target, reached), seconds=merging, cost=cost)
    assert cost.peak is not None
    target, reached = verdict(cost.peak / 1e9, MEMORY / 1e9 if whole else None)
    report.add(("KnOTS-TIES, peak GB of the process", f"{cost.peak / 1e9:.2f}", target, reached), peak=cost.peak)


def _sum(report: Report, width: int, pairs: int) -> None:
    import numpy as np
    import torch
    from peft import LoraConfig, get_peft_model

    from hubmerge.lora import merge_adapters

    torch.set_num_threads(1)
    drawn = np.random.default_rng(0)
    adapters: list[dict[str, tuple[Any, Any]]] = [
        {
            "0": (
                torch.from_numpy(drawn.standard_normal((RANK, width), dtype=np.float32)),
                torch.from_numpy(drawn.standard_normal((width, RANK), dtype=np.float32)),
            )
        }
        for _ in range(2)
    ]
    config = LoraConfig(r=RANK, lora_alpha=RANK, target_modules=["0"])
    model = get_peft_model(torch.nn.Sequential(torch.nn.Linear(width, width, bias=False)), config, "first")
    model.add_adapter("second", config)
    layer = model.base_model.model[0]
    with torch.no_grad():
        for name, adapter in zip(("first", "second"), adapters, strict=True):
            layer.lora_A[name].weight.copy_(adapter["0"][0])
            layer.lora_B[name].weight.copy_(adapter["0"][1])
    ours, theirs, furthest = [], [], 0.0
    merge_adapters("svd", adapters, parameters={"weight": [0.7, 0.3]})  # imports are not counted
    for pair in range(pairs):
        begun = time.perf_counter()
        model.add_weighted_adapter(["first", "second"], [0.7, 0.3], f"both{pair}", combination_type="svd")
        theirs.append(time.perf_counter() - begun)
        begun = time.perf_counter()
        merged = merge_adapters("svd", adapters, parameters={"weight": [0.7, 0.3]})
        ours.append(time.perf_counter() - begun)
        with torch.no_grad():
            change = layer.get_delta_weight(f"both{pair}")
            a, b = merged["0"]
            furthest = max(furthest, float((b @ a - change).norm() / change.norm()))
    faster = statistics.median(other / own for own, other in zip(ours, theirs, strict=True))
    target, reached = verdict(faster, FASTER if width == NARROW else None, at_least=True)
    cells = (f"a sum cut to rank {RANK}, times faster than PEFT", f"{faster:.0f}", target, reached)
    report.add(cells, ours=ours, peft=theirs, relative_difference=furthest)
    report.add(("its difference from PEFT's, relative", f"{furthest:.1e}", *verdict(furthest, 1e-4)))


def _peft_version() -> str:
    from importlib.metadata import version

    return version("peft")


if __name__ == "__main__":
    main()
