"""The running sums of LoRA adapters' changes, from their factors: the changes are never built, and no choice of factors shows.

A and B of one change are not its own: (B R)(R^-1 A) is the same for any invertible R (Putterman et al. 2024, Learning on LoRAs,
arXiv:2410.04207).  Inner products of the changes are, and need only the small products of factors:
<B1 A1, B2 A2> = tr((B2^T B1)(A1 A2^T)).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from hubmerge.deltas.beside import in_order_of_layers
from hubmerge.deltas.sums import TensorSums
from hubmerge.lora.adapter import Adapter
from hubmerge.lora.stacks import Stack, stacks_of

__all__ = ["sums_of_adapters"]


def sums_of_adapters(adapters: Sequence[Adapter], squares: Mapping[str, float]) -> tuple[TensorSums, ...]:
    """The sums of every module that one of them changes; one that leaves it alone has a change of zero there.

    squares: by module the sum of squares of the base's weight, where it is known.  O((out + in) R^2) for a module, R the sum of ranks.
    Raises `PlanError` for a module of several shapes.
    """
    stacks = stacks_of(adapters, "zero")
    return tuple(_sums(stacks[name], squares.get(name, np.nan)) for name in sorted(stacks, key=in_order_of_layers))


def _sums(stack: Stack, base: float) -> TensorSums:
    a, b, columns = stack.a(), stack.b(), stack.columns
    products = (b.T @ b) * (a @ a.T)
    gram = np.array([[products[one, other].sum() for other in columns] for one in columns])
    totals = b.sum(0) * a.sum(1)
    out, within = stack.shape
    return TensorSums(stack.module, out * within, gram, np.array([totals[own].sum() for own in columns]), base)
