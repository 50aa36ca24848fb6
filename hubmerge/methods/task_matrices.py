"""Which tensors are merged by their singular vectors, and which of these vectors are noise."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, Literal

from numpy import float32
from pydantic import Field

from hubmerge.method import MergeMethod, Parameters, entrywise, recorded

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

    from hubmerge.method_parameters import Values

__all__ = [
    "TaskMatrixParameters",
    "as_matrices",
    "by_singular_vectors",
    "is_table",
    "mean_elsewhere",
    "noise_of",
    "significant",
]

_TABLES = re.compile(
    r"(?:^|[._])(?:embd?|embeddings?|embeds?)(?=[._]|$)"
    r"|(?:^|\.)(?:wte|wpe|shared|lm_head|lm_loss|predictions\.decoder|vocab_projector|text_projection)(?=\.|$)"
    r"|(?:^|\.)(?:relative_attention_bias|relative_position_bias_table|rel_pos_[hw])(?=\.|$)"
)


class TaskMatrixParameters(Parameters):
    lambda_: float = Field(1.0, alias="lambda", description="scale of the merged delta (alpha in the paper)")
    svd: Literal["auto", True, False] = Field(
        "auto",
        description=(
            "which tensors go through singular vectors, the others get the mean of the deltas: auto, every matrix but embeddings, heads "
            "over the vocabulary (tied or not), tables of positions and text_projection; true, also these, and kernels as (out, rest); "
            "false, none"
        ),
    )


def is_table(name: str) -> bool:
    """Whether a tensor's name is that of an embedding, a head over the vocabulary, a table of positions, or text_projection.

    Tied weights are stored once, under one of these names.
    """
    return _TABLES.search(name) is not None


def by_singular_vectors(values: Values, name: str, shape: tuple[int, ...]) -> dict[str, Any]:
    """One tensor's values with `svd` settled: whether it is merged by its singular vectors."""
    asked = values["svd"]
    matrices = len(shape) == 2 and not is_table(name)
    return {**values, "svd": matrices if asked == "auto" else bool(asked) and len(shape) >= 2}


@entrywise
def _mean_of_deltas(deltas: Sequence[float32], lambda_: float32) -> float32:
    """Lambda times the mean of the deltas."""
    total = float32(0)
    for delta in deltas:
        total += delta
    return lambda_ * (total / float32(len(deltas)))


_MEAN = recorded("mean_of_deltas", _mean_of_deltas, parameters=TaskMatrixParameters, operand="delta")


def mean_elsewhere(values: Values) -> MergeMethod | None:
    """The mean of the deltas, entry by entry and so in chunks, for a tensor that is not merged by its singular vectors."""
    return None if values["svd"] else _MEAN


def as_matrices(deltas: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
    """Deltas of two or more dimensions as (out, rest)."""
    return tuple(delta.flatten(1) for delta in deltas)


def noise_of(base: torch.Tensor, summed: int = 1) -> float:
    """A bound on the largest singular value of what float32 rounded away when `summed` parents near `base` were stored.

    Entries are rounded by at most half a unit in the last place of theirs, which for a delta far below its base is much in its own.
    An (m, n) matrix of independent entries of size s has singular values up to about s (sqrt(m) + sqrt(n)).
    """
    import torch

    if not base.numel():
        return 0.0
    rows = base.shape[0]
    size = float(base.square().mean().sqrt()) * torch.finfo(torch.float32).eps
    spread: float = rows**0.5 + (base.numel() / rows) ** 0.5
    return size * spread * math.sqrt(summed)


def significant(values: torch.Tensor, shape: Sequence[int], noise: float) -> int:
    """How many singular values, descending, of a matrix are more than the solver's rounding and `noise`: its numerical rank."""
    import torch

    if not values.numel():
        return 0
    tolerance = float(values[0]) * max(shape) * torch.finfo(values.dtype).eps
    return int((values > tolerance + noise).sum())
