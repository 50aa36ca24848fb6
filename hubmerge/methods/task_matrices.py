"""Which tensors are merged by their singular vectors, in which precision, and which of these vectors are noise."""

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
    "decomposed_in",
    "is_precise",
    "is_table",
    "mean_elsewhere",
    "rounding_of",
    "significant",
    "summed",
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


def is_precise(shape: Sequence[int]) -> bool:
    """Whether a tensor of this shape, as (out, rest), is decomposed in float64: where the smaller side is at most 1,024.

    Orthonormal factors lose to rounding what the largest singular value is over the smallest: in float32 hundreds of roundings for
    matrices of 64 by 64.  Float64 takes less than twice the time.  Larger matrices, and those of more than four million
    entries, stay in float32 for their memory.
    """
    entries = math.prod(shape)
    side = min(shape[0], entries // shape[0]) if len(shape) > 1 and entries else 0
    return side <= _PRECISE_SIDE and entries <= _PRECISE_ENTRIES


def decomposed_in(matrix: torch.Tensor) -> torch.Tensor:
    """A float32 matrix in the type that it is decomposed in; MPS has float32 alone."""
    return matrix.double() if is_precise(matrix.shape) and matrix.device.type != "mps" else matrix


def summed(matrices: Sequence[torch.Tensor]) -> torch.Tensor:
    """The sum of float32 matrices in the type that it is decomposed in."""
    total = decomposed_in(matrices[0]).clone()
    for matrix in matrices[1:]:
        total += matrix
    return total


def rounding_of(base: torch.Tensor, deltas: Sequence[torch.Tensor]) -> float:
    """A bound on the largest singular value of what float32 rounded away of the sum of `deltas`, of parents near `base`.

    Entries are rounded by at most half a unit in the last place: those of a parent, which for a delta far below its base is
    much in its own, and those of the delta.  A matrix of independent entries of different sizes has singular values up to about the
    length of its longest row and that of its longest column together.
    """
    import torch

    if not base.numel():
        return 0.0
    near, own = _reach(base.flatten(1)), [_reach(delta) for delta in deltas]
    eps: float = torch.finfo(torch.float32).eps
    return eps * math.sqrt(len(own) * near**2 + sum(each**2 for each in own))


def _reach(matrix: torch.Tensor) -> float:
    """The length of the longest row and that of the longest column."""
    return float(matrix.norm(dim=1).max() + matrix.norm(dim=0).max())


def significant(values: torch.Tensor, shape: Sequence[int], noise: float) -> int:
    """How many singular values, descending, of a matrix are more than the solver's rounding and `noise`: its numerical rank."""
    import torch

    if not values.numel():
        return 0
    tolerance = float(values[0]) * max(shape) * torch.finfo(values.dtype).eps
    return int((values > tolerance + noise).sum())


_PRECISE_SIDE, _PRECISE_ENTRIES = 1024, 1 << 22
