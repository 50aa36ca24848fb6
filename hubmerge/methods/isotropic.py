"""Isotropic merging: all directions of the summed task matrices get the same singular value."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from hubmerge.method import Parameters, matrix, merge_method

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

__all__ = ["IsoCParameters", "iso_c"]


class IsoCParameters(Parameters):
    lambda_: float = Field(1.0, alias="lambda", description="scale of the merged delta (alpha in the paper)")


@merge_method(
    "iso_c",
    parameters=IsoCParameters,
    operand="delta",
    paper="Marczak et al. 2025, No task left behind: isotropic model merging, arXiv:2502.04959",
)
@matrix
def iso_c(deltas: Sequence[torch.Tensor], base: torch.Tensor, lambda_: float) -> torch.Tensor:  # noqa: ARG001
    """Flatten the singular values of the summed deltas to their mean (Iso-C, algorithm 1).

    deltas: one float32 (out, in) tensor per parent.  Returns lambda * s * U V^T, where U S V^T is the SVD of their sum and
    s the mean of S.  Tensors that are not matrices (norms, biases, convolutions) get lambda * the mean of the deltas, as
    in the authors' code.  Differs from it where the sum has not full rank: U, S and V are restricted to the numerical
    rank, because the remaining singular vectors are noise of the solver; a zero sum stays zero.
    """
    import torch

    total = torch.stack(tuple(deltas)).sum(dim=0)
    if total.ndim != 2:
        return lambda_ * total / len(deltas)
    left, values, right = torch.linalg.svd(total, full_matrices=False)
    tolerance = values.max() * max(total.shape) * torch.finfo(total.dtype).eps
    rank = int((values > tolerance).sum())
    flattened: torch.Tensor = lambda_ * values[:rank].sum() / max(rank, 1) * (left[:, :rank] @ right[:rank])
    return flattened
