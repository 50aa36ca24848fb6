"""Eight random adapters of a model of 7B merged by KnOTS-TIES; prints the seconds of the merge: `python -m benchmarks.adapters.knots LAYERS`."""

from __future__ import annotations

import sys
import time

import numpy as np

from benchmarks.adapters.speed import ADAPTERS, MODULES, RANK, WIDTH
from hubmerge.lora import merge_adapters

__all__ = ["main"]


def main(layers: int) -> None:
    """Make the adapters and merge them."""
    drawn = np.random.default_rng(0)
    shapes = ((RANK, WIDTH), (WIDTH, RANK))
    adapters = [
        {
            f"model.layers.{layer}.module{module}": tuple(
                drawn.standard_normal(shape, dtype=np.float32) for shape in shapes
            )
            for layer in range(layers)
            for module in range(MODULES)
        }
        for _ in range(ADAPTERS)
    ]
    begun = time.perf_counter()
    merged = merge_adapters(
        "ties",
        adapters,
        basis="knots",
        parameters={"density": 0.2, "trim_scope": "model", "elect": "plain", "divide": "count"},
    )
    seconds = time.perf_counter() - begun
    assert len(merged) == layers * MODULES
    print(seconds)


if __name__ == "__main__":
    main(int(sys.argv[1]))
