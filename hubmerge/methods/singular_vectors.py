"""Merges of the leading singular vectors of task matrices, made orthogonal together: TSV-M and Iso-CTS."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from hubmerge.method import matrix, merge_method
from hubmerge.methods.task_matrices import (
    TaskMatrixParameters,
    as_matrices,
    by_singular_vectors,
    decomposed_in,
    mean_elsewhere,
    rounding_of,
    significant,
    summed,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

__all__ = ["IsoCTSParameters", "TSVMParameters", "iso_cts", "tsv_m"]


class TSVMParameters(TaskMatrixParameters):
    pass


@merge_method(
    "tsv_m",
    parameters=TSVMParameters,
    operand="delta",
    named=by_singular_vectors,
    elsewhere=mean_elsewhere,
    revision=3,
    paper="Gargiulo et al. 2024, Task singular vectors: reducing task interference in model merging, arXiv:2412.00081",
)
@matrix
def tsv_m(deltas: Sequence[torch.Tensor], base: torch.Tensor, lambda_: float) -> torch.Tensor:
    """Keep each delta's leading singular vectors and make those of all parents orthogonal (TSV-M, algorithm 1).

    deltas: one float32 (out, in) tensor per parent.  Of every delta the first floor(r / T) singular triplets are kept, r the smaller
    side and T the number of parents; all left vectors side by side are replaced by the nearest orthonormal ones, so are the right
    ones, and the result is lambda * U S V^T with the singular values as they were.  Tensors that are not matrices get lambda * the
    mean of the deltas, and so do embeddings, heads over the vocabulary, tables of positions and text_projection: `svd` chooses
    otherwise, by a filter on names where it is to.  Fused projections are one matrix.  Differs from the authors' code in these
    tables, where r / T is below 1, one triplet of each is kept, and where a delta has not that rank or deltas share
    directions: vectors beyond what there is are noise of the solver and of float32.  Float64 as in iso_c.
    """
    import torch

    matrices = as_matrices(deltas)
    kept = max(1, min(matrices[0].shape) // len(deltas))
    parts = [_leading(decomposed_in(delta), kept, rounding_of(base, (delta,))) for delta in matrices]
    left, values, right = (torch.cat(each) for each in zip(*parts, strict=True))
    del parts
    merged: torch.Tensor = lambda_ * (_orthogonal(left.T) * values) @ _orthogonal(right.T).T
    return merged.reshape(deltas[0].shape).float()


class IsoCTSParameters(TaskMatrixParameters):
    common: float = Field(0.8, ge=0, le=1, description="share of the directions that all parents have together")


@merge_method(
    "iso_cts",
    parameters=IsoCTSParameters,
    operand="delta",
    named=by_singular_vectors,
    elsewhere=mean_elsewhere,
    revision=3,
    paper="Marczak et al. 2025, No task left behind: isotropic model merging, arXiv:2502.04959",
)
@matrix
def iso_cts(deltas: Sequence[torch.Tensor], base: torch.Tensor, lambda_: float, common: float) -> torch.Tensor:
    """Directions of the summed deltas and of each delta beside them, all with the mean singular value (Iso-CTS, algorithm 2).

    deltas: one float32 (out, in) tensor per parent.  Of the r directions each of the T parents has s = round((1 - common) r / T), and
    the sum of all has the k = r - s T leading ones; a parent's are the leading ones of what of its delta those k leave.  Left and right
    vectors are made orthonormal, and every direction gets the mean of the singular values that were chosen.  r is the numerical
    rank of all deltas together, where the authors' code has the smaller side: beyond it singular vectors are noise of
    the solver and of float32.  Tensors that are not matrices get lambda * the mean of the deltas, and so do embeddings, heads over the
    vocabulary, tables of positions and text_projection (the authors leave out the last alone): `svd` chooses otherwise, by a filter on
    names where it is to.  Fused projections are one matrix.  With more parents than r / 2 directions s is lowered until k is at least 0.
    Float64 as in iso_c.
    """
    import torch

    matrices = as_matrices(deltas)
    stored = rounding_of(base, matrices)
    rows, columns = matrices[0].shape
    below, beside = _values_of_stack(matrices), _values_of_stack([delta.T for delta in matrices])
    rank = min(
        significant(below, (len(deltas) * rows, columns), stored),
        significant(beside, (rows, len(deltas) * columns), stored),
    )
    if not rank:
        return torch.zeros_like(deltas[0])
    total = summed(matrices)
    own = min(round((rank - int(common * rank)) / len(deltas)), rank // len(deltas))
    shared = rank - own * len(deltas)
    # what is left of a delta has the rounding of the whole of it
    noise = stored + float(below[0]) * max(total.shape) * torch.finfo(total.dtype).eps
    first = _leading(total, shared, noise)
    own_parts = [_leading(_without(first[0], delta.to(total.dtype)), own, noise) for delta in matrices]
    parts = [*own_parts, first]
    left, values, right = (torch.cat(each) for each in zip(*parts, strict=True))
    del total, first, own_parts, parts  # as large as what follows needs
    merged: torch.Tensor = lambda_ * values.mean() * _orthogonal(left.T) @ _orthogonal(right.T).T
    return merged.reshape(deltas[0].shape).float()


def _without(directions: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
    """What of a matrix is at right angles to these left vectors, (count, out)."""
    return matrix - directions.T @ (directions @ matrix)


def _values_of_stack(matrices: Sequence[torch.Tensor]) -> torch.Tensor:
    """The singular values of matrices one below the other, which are never put together."""
    import torch

    upper = decomposed_in(matrices[0])
    for each in matrices[1:]:
        upper = torch.linalg.qr(torch.cat((upper, each.to(upper.dtype))), mode="r")[1]
    found: torch.Tensor = torch.linalg.svdvals(upper)
    return found


def _leading(matrix: torch.Tensor, count: int, noise: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The first `count` left vectors (count, out), singular values (count,) and right vectors (count, in), as far as its rank goes."""
    import torch

    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    kept = min(count, significant(values, matrix.shape, noise))
    return left.T[:kept].clone(), values[:kept], right[:kept].clone()  # a view would keep all of them


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
