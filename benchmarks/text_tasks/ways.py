"""The ways of merging that are compared, with their parameters.

All were committed before a merge was scored, but for those that look at data, which were before they were scored themselves.
Parameters are the methods' defaults, but for a density, which sources choose per method, and the scale, which is treated alike for all:
where a method has one, it is chosen on the calibration pieces, from `SCALES`, by the mean accuracy of the tasks; what the default does is
reported beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from benchmarks.text_tasks.trainings import Kind

__all__ = ["SCALES", "Scale", "Way", "ways"]

SCALES = (0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0)
"""Of the merged delta.  A sum of six deltas times 1/6 is their mean.  2 and 3 were added when MiniLM's first two seeds often chose 1.5."""

Scale = Literal["lambda", "weight"]


@dataclass(frozen=True)
class Way:
    """One line of the table.

    scale: the parameter that scales the merged delta, None for a method without one; its default is 1.  basis: of adapters.  rank: of the
    merged adapter; None keeps all.  looks_at: what it is given of the calibration pieces, for every parent those of its task.
    """

    kind: Kind
    key: str
    method: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    scale: Scale | None = "lambda"
    basis: Literal["knots", "core"] | None = None
    rank: int | None = None
    looks_at: Literal["texts", "labels"] | None = None


_OFFICIAL: Mapping[str, Any] = {"density": 0.2, "trim_scope": "model", "elect": "plain", "divide": "count"}

_BRIEFLY: Mapping[str, Any] = {"steps": 30, "learning_rate": 0.01, "batch": 8}
"""Of AdaMerging's 500 steps of 0.001, for a benchmark on processors."""

_FULL: tuple[Way, ...] = (
    Way("full", "linear", "linear", scale=None),
    Way("full", "karcher", "karcher", scale=None),
    Way("full", "multislerp", "multislerp", scale=None),
    Way("full", "model_stock", "model_stock", scale=None),
    Way("full", "sce", "sce", {"select_topk": 0.5}, scale=None),
    Way("full", "ram", "ram", scale=None),
    Way("full", "ramplus_tl", "ramplus_tl", scale=None),
    Way("full", "task_arithmetic", "task_arithmetic"),
    Way("full", "ties", "ties", {"density": 0.2}),
    Way("full", "ties, as its authors have it", "ties", _OFFICIAL),
    Way("full", "dare_linear", "dare_linear", {"density": 0.5}),
    Way("full", "dare_ties", "dare_ties", {"density": 0.5}),
    Way("full", "della_linear", "della_linear", {"density": 0.5}),
    Way("full", "della", "della", {"density": 0.5}),
    Way("full", "breadcrumbs", "breadcrumbs", {"density": 0.9, "gamma": 0.01}),
    Way("full", "breadcrumbs_ties", "breadcrumbs_ties", {"density": 0.9, "gamma": 0.01}),
    Way("full", "awd: task_arithmetic", "awd", {"inner": "task_arithmetic"}),
    Way("full", "awd: ties", "awd", {"inner": "ties", "density": 0.2}),
    Way("full", "iso_c", "iso_c"),
    Way("full", "tsv_m", "tsv_m"),
    Way("full", "iso_cts", "iso_cts"),
    Way("full", "sens_merging", "sens_merging", looks_at="labels"),
    Way("full", "sens_merging, temperature 0.1", "sens_merging", {"temperature": 0.1}, looks_at="labels"),
    Way("full", "adamerging, 30 steps", "adamerging", _BRIEFLY, looks_at="texts"),
    Way(
        "full", "adamerging++, 30 steps", "adamerging", {**_BRIEFLY, "inner": "ties", "density": 0.2}, looks_at="texts"
    ),
)

_LORA: tuple[Way, ...] = (
    Way("lora", "task_arithmetic", "task_arithmetic"),
    Way("lora", "task_arithmetic, rank 16", "task_arithmetic", rank=16),
    Way("lora", "KnOTS: ties", "ties", _OFFICIAL, basis="knots"),
    Way("lora", "KnOTS: dare_ties", "dare_ties", {"density": 0.5}, basis="knots"),
    Way("lora", "core: ties", "ties", {"density": 0.2}, basis="core"),
    Way("lora", "core: awd", "awd", {"inner": "task_arithmetic"}, basis="core"),
    Way("lora", "core: iso_c", "iso_c", basis="core"),
    Way("lora", "core: tsv_m", "tsv_m", basis="core"),
    Way("lora", "core: iso_cts", "iso_cts", basis="core"),
    Way("lora", "PEFT: cat", "cat", scale="weight"),
    Way("lora", "PEFT: svd", "svd", scale="weight"),
    Way("lora", "PEFT: linear", "linear", scale="weight"),
    Way("lora", "PEFT: ties", "ties", {"density": 0.2}, scale="weight"),
    Way("lora", "PEFT: dare_linear", "dare_linear", {"density": 0.5}, scale="weight"),
)


def ways(kind: Kind) -> tuple[Way, ...]:
    """The lines of the experts of a kind."""
    return _FULL if kind == "full" else _LORA
