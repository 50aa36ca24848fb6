"""Least squares for one layer: normal equations that are added up batch by batch, solved with a ridge towards given weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Normal", "best_ridge", "gathered", "means_of", "patches", "ridge_for", "solved", "summed"]


@dataclass(frozen=True)
class Normal:
    """Sums over rows, float64: of x x^T (inputs, inputs), of x y^T (inputs, outputs), of x, y and y^2, and how many rows."""

    gram: Tensor
    cross: Tensor
    x: Tensor
    y: Tensor
    yy: Tensor
    rows: int

    @classmethod
    def of(cls, x: Tensor, y: Tensor) -> Normal:
        """x: (rows, inputs), y: (rows, outputs); computed in float64."""
        import torch

        x, y = x.to(torch.float64), y.to(torch.float64)
        return cls(x.T @ x, x.T @ y, x.sum(0), y.sum(0), y.square().sum(0), len(x))

    def __add__(self, other: Normal) -> Normal:
        return Normal(
            self.gram + other.gram, self.cross + other.cross, self.x + other.x, self.y + other.y, self.yy + other.yy,
            self.rows + other.rows,
        )  # fmt: skip

    def take_in(self, other: Normal) -> Normal:
        """The sum of both, in the tensors of this one, which is not to be used on."""
        for name in ("gram", "cross", "x", "y", "yy"):
            getattr(self, name).add_(getattr(other, name))
        return replace(self, rows=self.rows + other.rows)

    def __sub__(self, other: Normal) -> Normal:
        return Normal(
            self.gram - other.gram, self.cross - other.cross, self.x - other.x, self.y - other.y, self.yy - other.yy,
            self.rows - other.rows,
        )  # fmt: skip

    @property
    def centred(self) -> Normal:
        """The same about the means of x and y: what is fitted where a constant is free."""
        return self.about(self.x / self.rows, self.y / self.rows)

    def about(self, x: Tensor, y: Tensor) -> Normal:
        """The same of the inputs and outputs less `x` (inputs,) and `y` (outputs,)."""
        import torch

        across = torch.outer(x, self.x)
        return Normal(
            (self.gram - across).sub_(across.T).add_(self.rows * torch.outer(x, x)),
            (self.cross - torch.outer(x, self.y)).sub_(torch.outer(self.x, y)).add_(self.rows * torch.outer(x, y)),
            self.x - self.rows * x,
            self.y - self.rows * y,
            self.yy - 2 * y * self.y + self.rows * y.square(),
            self.rows,
        )

    def error(self, weight: Tensor) -> Tensor:
        """The sum over rows of the squared error of every output.  weight: (inputs, outputs)."""
        return self.yy - 2 * (weight * self.cross).sum(0) + (weight * (self.gram @ weight)).sum(0)


def summed(folds: Sequence[Normal]) -> Normal:
    """The normal equations of all folds, of which there is at least one."""
    total = folds[0] + folds[1] if len(folds) > 1 else folds[0]
    for fold in folds[2:]:
        total = total.take_in(fold)
    return total


def gathered(folds: list[Normal]) -> Normal:
    """The same, bit by bit, of folds that are used up: the list is emptied, and no more is held than is still to be added."""
    total = folds.pop(0)
    while folds:
        total = total.take_in(folds.pop(0))
    return total


def means_of(folds: Sequence[Normal]) -> tuple[Tensor, Tensor]:
    """The means of the inputs and of the outputs over all folds."""
    x, y, rows = folds[0].x, folds[0].y, folds[0].rows
    for fold in folds[1:]:
        x, y, rows = x + fold.x, y + fold.y, rows + fold.rows
    return x / rows, y / rows


def solved(normal: Normal, prior: Tensor, allowed: Tensor, ridge: float) -> Tensor:
    """The weights (inputs, outputs) of smallest squared error plus `ridge` times the mean square of the inputs times their squared
    distance from `prior`.

    allowed: (inputs, outputs), bool: which weights may be other than `prior`'s.  Outputs with the same inputs are solved together:
    ``W = P + (G + mu I)^-1 (R - G P)``.
    """
    import torch

    weight = prior.clone()
    mu = ridge * normal.gram.diagonal().mean().clamp_min(_LEAST)
    for inputs, outputs in _kinds(allowed):
        right = _missing(normal, prior, inputs, outputs)
        left = _among(normal.gram, inputs)
        left = left.clone() if left is normal.gram else left
        left.diagonal().add_(mu)
        _add(weight, inputs, outputs, torch.linalg.solve(left, right))
    return weight


def best_ridge(
    folds: Sequence[Normal], prior: Tensor, allowed: Tensor, ridges: Sequence[float], *, left_out: int | None = None
) -> float:
    """The ridge whose weights, found without one fold, have the smallest error in it, summed over the folds.

    Errors are those above the prior's, which all ridges share.  left_out: how many of the folds, from the first on, are left out in turn;
    default all.
    """
    import torch

    total = summed(folds)
    errors = torch.zeros(len(ridges), dtype=prior.dtype)
    for fold in folds[:left_out]:
        rest = total - fold
        scales = torch.tensor(ridges, dtype=prior.dtype) * rest.gram.diagonal().mean().clamp_min(_LEAST)
        turned = []
        for inputs, outputs in _kinds(allowed):
            values, vectors = torch.linalg.eigh(_among(rest.gram, inputs))
            turned.append((inputs, outputs, values, vectors, vectors.T @ _missing(rest, prior, inputs, outputs)))
        del rest  # as large as the eigenvectors
        for inputs, outputs, values, vectors, missing in turned:
            # a ridge's step is V D M, D its own diagonal: what large products they share is worked out once
            shares = 1 / (values.clamp_min(0) + scales[:, None])
            explained = (missing * (vectors.T @ _missing(fold, prior, inputs, outputs))).sum(1)
            quadratic = (vectors.T @ _among(fold.gram, inputs) @ vectors).mul_(missing @ missing.T)
            errors += ((shares @ quadratic) * shares).sum(1) - 2 * shares @ explained
    return ridges[int(errors.argmin())]


def ridge_for(folds: Sequence[Normal], prior: Tensor, allowed: Tensor, ridge: float | Literal["auto"]) -> float:
    """The ridge itself; for auto the one that predicts best what was left out, the usual one where there is but one fold."""
    if ridge != "auto":
        return ridge
    left_out = len(folds) if len(prior) <= _MANY else 1
    return best_ridge(folds, prior, allowed, _RIDGES, left_out=left_out) if len(folds) > 1 else _DEFAULT_RIDGE


_RIDGES = tuple(10.0**k for k in range(-5, 4))
_DEFAULT_RIDGE = 1e-3
_MANY = 1024
"""Inputs of a layer beyond which only one part is left out: its eigenvectors take a second at 2,000, nine at 4,000."""


def _kinds(allowed: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """The outputs that have the same inputs, with these, as masks; those that have none are left out."""
    import torch

    kinds, which = torch.unique(allowed.T, dim=0, return_inverse=True)
    for k, inputs in enumerate(kinds):
        if inputs.any():
            yield inputs, which == k


def _missing(normal: Normal, prior: Tensor, inputs: Tensor, outputs: Tensor) -> Tensor:
    """What the prior's weights leave unexplained of these outputs, times these inputs."""
    gram = normal.gram if bool(inputs.all()) else normal.gram[inputs]
    return normal.cross[inputs][:, outputs] - gram @ prior[:, outputs]


def _add(weight: Tensor, inputs: Tensor, outputs: Tensor, step: Tensor) -> None:
    """The step of these inputs' and outputs' weights, added to all of them."""
    import torch

    if bool(inputs.all()) and bool(outputs.all()):  # the places of single entries take four times the weights' memory
        weight.add_(step)
    else:
        weight[torch.outer(inputs, outputs)] += step.reshape(-1)


def _among(gram: Tensor, inputs: Tensor) -> Tensor:
    """The products of these inputs; the very tensor where they are all."""
    return gram if bool(inputs.all()) else gram[inputs][:, inputs]


_LEAST = 1e-12


def patches(images: Tensor, kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int]) -> Tensor:
    """What a convolution multiplies its weights with: (batch * places, channels * height * width)."""
    from torch.nn.functional import unfold

    found: Tensor = unfold(images, kernel, padding=padding, stride=stride)
    return found.movedim(1, -1).reshape(-1, found.shape[1])
