"""What is known before a tensor is measured or merged: the seed, what stages found, and deltas put through a stage."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from hubmerge import measure_kernels, row_kernels
from hubmerge.measures import Array
from hubmerge.method import Stage

__all__ = ["NOTHING_KNOWN", "Known", "Staged", "put_through", "random_key"]


def random_key(seed: int, parent: int, tensor: str) -> np.uint64:
    """What makes the random numbers of one parent's tensor its own: 64 bits of a hash of seed, place in the order and name.

    The place, not the name: a folder that was moved, or tensors in memory, get the same numbers.
    """
    text = f"{seed}\n{parent}\n{tensor}".encode()
    return np.uint64(int.from_bytes(hashlib.sha256(text).digest()[:8], "little"))


@dataclass(frozen=True)
class Known:
    """What is known of a merge before its tensors: the recipe's seed, and what stages found for pools of tensors, by name."""

    seed: int = 0
    pools: Mapping[str, Any] = field(default_factory=dict)


NOTHING_KNOWN = Known()


@dataclass(frozen=True)
class Staged:
    """A stage and what it knows of each parent: what deltas go through before anything is asked about them.

    marks: for each parent which entries the stage keeps (`hubmerge.marks`), where the measure of it left them.
    """

    stage: Stage
    states: tuple[tuple[Any, ...], ...]
    marks: tuple[Array, ...] = ()


def put_through(
    rule: Callable[..., Any],
    per: Literal["entry", "row"],
    deltas: tuple[Array, ...],
    states: tuple[tuple[Any, ...], ...],
    offset: int,
    columns: int,
) -> None:
    """Put every parent's float32 deltas through a stage's rule, in place; they are whole rows where it works on rows."""
    for values, state in zip(deltas, states, strict=True):
        if per == "row":
            row_kernels.staged_rows_kernel(rule)(values, columns, state, offset)
        else:
            measure_kernels.staged_kernel(rule)(values, state, offset)
