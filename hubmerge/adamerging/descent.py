"""The descent of AdaMerging: Adam on the coefficients, by the entropy of the merge's answers on every task's data."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from hubmerge.adamerging.entropy import mean_entropy
from hubmerge.adamerging.working import WorkingModel

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Adam", "Found", "Task", "descended"]

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Task:
    """One parent's data, in the parts that a step takes, and its own head, by the model's names of parameters; empty: the merged head's."""

    name: str
    parts: Sequence[Mapping[str, Tensor]]
    head: Mapping[str, Tensor]


@dataclass(frozen=True)
class Found:
    """coefficients: (groups, parents).  before, after: by task the mean entropy over all of its data, in nats."""

    coefficients: Array
    before: tuple[float, ...]
    after: tuple[float, ...]


class Adam:
    """Adam (Kingma and Ba 2015, algorithm 1) on an array, with its usual decays .9 and .999 and epsilon 1e-8."""

    def __init__(self, rate: float, shape: tuple[int, ...]) -> None:
        self._rate = rate
        self._first, self._second = np.zeros(shape), np.zeros(shape)
        self._steps = 0

    def step(self, gradient: Array) -> Array:
        """What is subtracted from the array."""
        self._steps += 1
        self._first = 0.9 * self._first + 0.1 * gradient
        self._second = 0.999 * self._second + 0.001 * gradient**2
        first, second = self._first / (1 - 0.9**self._steps), self._second / (1 - 0.999**self._steps)
        change: Array = self._rate * first / (np.sqrt(second) + 1e-8)
        return change


def descended(
    working: WorkingModel,
    tasks: Sequence[Task],
    group_of: Sequence[int],
    *,
    init: float,
    steps: int,
    rate: float,
    clamp: bool,
    seed: int,
    note: Callable[[str], None] = lambda _: None,
) -> Found:
    """Lower the sum over the tasks of their mean entropies, from all coefficients at `init`.

    group_of: for every parameter of `working` the group whose coefficients it has.  A step takes one part of every task's data, each
    task's in an order of its own by `seed`, anew when all were taken.  clamp: coefficients are kept in [0, 1].
    """
    groups = np.asarray(group_of)
    coefficients = np.full((int(groups.max()) + 1, len(working.deltas)), init)
    orders = [_Order(len(task.parts), seed, place) for place, task in enumerate(tasks)]
    adam = Adam(rate, coefficients.shape)
    working.follow(coefficients[groups])
    before = _entropies(working, tasks)
    for step in range(steps):
        gradient = np.zeros_like(coefficients)
        for task, order in zip(tasks, orders, strict=True):
            with _head(working, task), working.gradients(skip=tuple(task.head)) as found:
                mean_entropy(working.model, task.parts[order.next()], task.name).backward()  # type: ignore[no-untyped-call]
            np.add.at(gradient, groups, found)
        coefficients = coefficients - adam.step(gradient)
        if clamp:
            coefficients = np.clip(coefficients, 0, 1)
        working.follow(coefficients[groups])
        if (step + 1) % 100 == 0:
            note(f"step {step + 1} of {steps}")
    return Found(coefficients, before, _entropies(working, tasks))


class _Order:
    """Numbers of parts, each once before any comes again."""

    def __init__(self, count: int, seed: int, place: int) -> None:
        self._random, self._count = np.random.default_rng([seed, place]), count
        self._left: list[int] = []

    def next(self) -> int:
        if not self._left:
            self._left = self._random.permutation(self._count).tolist()
        return self._left.pop()


@contextmanager
def _head(working: WorkingModel, task: Task) -> Iterator[None]:
    """While it lasts, the model has the task's own head."""
    import torch

    own = dict(working.model.named_parameters())
    merged = {name: own[name].detach().clone() for name in task.head}
    try:
        with torch.no_grad():
            for name, values in task.head.items():
                own[name].copy_(values)
        yield
    finally:
        with torch.no_grad():
            for name, values in merged.items():
                own[name].copy_(values)


def _entropies(working: WorkingModel, tasks: Sequence[Task]) -> tuple[float, ...]:
    """By task the mean entropy over its data, every part by its rows."""
    import torch

    found = []
    for task in tasks:
        sizes = [len(next(iter(part.values()))) for part in task.parts]
        with _head(working, task), torch.no_grad():
            means = [float(mean_entropy(working.model, part, task.name)) for part in task.parts]
        found.append(float(np.average(means, weights=sizes)))
    return tuple(found)
