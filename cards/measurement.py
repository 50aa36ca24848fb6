"""What scoring a model on a task gives, before it is a result with a name, a seed and a digest."""

from __future__ import annotations

from dataclasses import dataclass

from cards.results import Outcomes
from cards.suite import Metric

__all__ = ["Measurement", "Scored"]


@dataclass(frozen=True)
class Measurement:
    """One metric's value; the rest as in `TaskResult`."""

    metric: Metric
    value: float
    stderr: float | None
    n: int
    higher_is_better: bool
    outcomes: Outcomes
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Scored:
    """A model on the rows of a task.  ranks: of every row's true label among those of a joint measurement, empty without one."""

    measurements: tuple[Measurement, ...]
    ranks: tuple[int, ...] = ()
