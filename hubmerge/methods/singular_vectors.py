"""Merges of the leading singular vectors of task matrices, made orthogonal together: TSV-M and Iso-CTS."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from hubmerge.method import Parameters, matrix, merge_method

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

__all__ = ["IsoCTSParameters", "TSVMParameters", "iso_cts", "tsv_m"]


class TSVMParameters(Parameters):
    lambda_: float = Field(1.0, alias="lambda", description="scale of the merged delta (alpha in the paper)")


@merge_method(
    "tsv_m",
    parameters=TSVMParameters,
    operand="delta",
    paper="Gargiulo et al. 2024, Task singular vectors: reducing task interference in model merging, arXiv:2412.00081",
)
@matrix
def tsv_m(deltas: Sequence[torch.Tensor], base: torch.Tensor, lambda_: float) -> torch.Tensor:  # noqa: ARG001
    """Keep each delta's leading singular vectors and make those of all parents orthogonal (TSV-M, algorithm 1).

    deltas: one float32 (out, in) tensor per parent.  Of every delta the first floor(r / T) singular triplets are kept, r the smaller
    side and T the number of parents; all left vectors side by side are replaced by the nearest orthonormal ones, so are the right
    ones, and the result is lambda * U S V^T with the singular values as they were.  Tensors that are not matrices get lambda * the
    mean of the deltas.  Differs from the authors' code where r / T is below 1, one triplet of each is kept, and
    where a delta has not that rank: vectors beyond it are noise of the solver.
    """
    import torch

    if deltas[0].ndim != 2:
        return lambda_ * torch.stack(tuple(deltas)).mean(dim=0)
    kept = max(1, min(deltas[0].shape) // len(deltas))
    parts = [_leading(delta, kept) for delta in deltas]
    left, values, right = (torch.cat(each) for each in zip(*parts, strict=True))
    merged: torch.Tensor = lambda_ * (_orthogonal(left.T) * values) @ _orthogonal(right.T).T
    return merged


class IsoCTSParameters(Parameters):
    lambda_: float = Field(1.0, alias="lambda", description="scale of the merged delta (alpha in the paper)")
    common: float = Field(0.8, ge=0, le=1, description="share of the directions that all parents have together")


@merge_method(
    "iso_cts",
    parameters=IsoCTSParameters,
    operand="delta",
    paper="Marczak et al. 2025, No task left behind: isotropic model merging, arXiv:2502.04959",
)
@matrix
def iso_cts(deltas: Sequence[torch.Tensor], base: torch.Tensor, lambda_: float, common: float) -> torch.Tensor:  # noqa: ARG001
    """Directions of the summed deltas and of each delta beside them, all with the mean singular value (Iso-CTS, algorithm 2).

    deltas: one float32 (out, in) tensor per parent.  Of the r directions each of the T parents has s = round((1 - common) r / T), and
    the sum of all has the k = r - s T leading ones; a parent's are the leading ones of what of its delta those k leave.  Left and right
    vectors are made orthonormal, and every direction gets the mean of the singular values that were chosen.  r is the numerical
    rank of all deltas together, where the authors' code has the smaller side: beyond it singular vectors are noise of
    the solver.  Tensors that are not matrices get lambda * the mean of the deltas.  With more parents than r / 2 directions s is
    lowered until k is at least 0.
    """
    import torch

    if deltas[0].ndim != 2:
        return lambda_ * torch.stack(tuple(deltas)).mean(dim=0)
    total = torch.stack(tuple(deltas)).sum(dim=0)
    rank = min(_rank(torch.cat(tuple(deltas), dim=0)), _rank(torch.cat(tuple(deltas), dim=1)))
    if not rank:
        return total
    own = min(round((rank - int(common * rank)) / len(deltas)), rank // len(deltas))
    shared = rank - own * len(deltas)
    first = _leading(total, shared)
    beside = [delta - first[0].T @ (first[0] @ delta) for delta in deltas]
    parts = [*(_leading(delta, own) for delta in beside), first]
    left, values, right = (torch.cat(each) for each in zip(*parts, strict=True))
    merged: torch.Tensor = lambda_ * values.mean() * _orthogonal(left.T) @ _orthogonal(right.T).T
    return merged


def _leading(matrix: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The first `count` left vectors (count, out), singular values (count,) and right vectors (count, in), as far as its rank goes."""
    import torch

    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    kept = min(count, int((values > values.max() * max(matrix.shape) * torch.finfo(matrix.dtype).eps).sum()))
    return left.T[:kept], values[:kept], right[:kept]


def _orthogonal(vectors: torch.Tensor) -> torch.Tensor:
    """The polar factor: the nearest matrix with orthonormal columns, or rows where there are more columns.

    Where the columns are dependent it is an isometry of what they span: beyond that singular vectors are noise.
    """
    import torch

    left, values, right = torch.linalg.svd(vectors, full_matrices=False)
    kept = int((values > _DEPENDENT).sum())
    found: torch.Tensor = left[:, :kept] @ right[:kept]
    return found


_DEPENDENT = 1e-5
"""A singular value of unit vectors side by side that is rounding; that of independent ones is about 1."""


def _rank(matrix: torch.Tensor) -> int:
    import torch

    return int(torch.linalg.matrix_rank(matrix))
