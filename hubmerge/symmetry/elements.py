"""Elements of a model's symmetry group: for every group an order with factors, or a matrix; random ones by seed.  No torch.

An element takes the vector z of a group to z' = E z.  Where the group is nested (`Group.outer`), there is one E for every
entry of the outer group, counted before that one is reordered.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hubmerge.symmetry.groups import Group, Kind, SymmetrySpec

__all__ = ["Element", "Linear", "Monomial", "random_element"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Monomial:
    """z'[i] = factor[i] * z[order[i]].  Both (size,), or (outer's size, size) where the group is nested."""

    order: NDArray[np.int64]
    factor: Floats


@dataclass(frozen=True)
class Linear:
    """z' = matrix z.  (size, size), or (outer's size, size, size) where the group is nested; invertible."""

    matrix: Floats


Element = Mapping[str, Monomial | Linear]
"""Group -> what is done to it; a group that is not there stays as it is."""


def random_element(
    spec: SymmetrySpec, seed: int, *, only: Collection[str] | None = None
) -> dict[str, Monomial | Linear]:
    """A random element of the declared symmetries, in every group, or in the groups `only`.

    A group's part depends on the seed and the group's name alone.  Orders are one cycle, so that no entry stays where it is;
    factors are exp(.5 n), n normal; invertible matrices are orthogonal ones (Haar) with rows so scaled.
    """
    return {
        name: _part(group, spec.groups[group.outer].size if group.outer else None, seed)
        for name, group in spec.groups.items()
        if group.kind.is_symmetry and (only is None or name in only)
    }


def _part(group: Group, outer: int | None, seed: int) -> Monomial | Linear:
    rng = np.random.default_rng([seed, zlib.crc32(group.name.encode())])
    draw = _DRAWS.get(group.kind, _monomial)
    if outer is None:
        return draw(group, rng)
    parts = [draw(group, rng) for _ in range(outer)]
    if group.kind.is_linear:
        return Linear(np.stack([part.matrix for part in parts if isinstance(part, Linear)]))
    monomials = [part for part in parts if isinstance(part, Monomial)]
    return Monomial(np.stack([part.order for part in monomials]), np.stack([part.factor for part in monomials]))


def _monomial(group: Group, rng: np.random.Generator) -> Monomial:
    cycle = rng.permutation(group.size)
    order = np.empty_like(cycle)
    order[cycle] = np.roll(cycle, 1)
    factor = np.ones(group.size)
    if group.kind.signs:
        factor *= rng.choice([-1.0, 1.0], group.size)
    if group.kind.scales:
        factor *= np.exp(0.5 * rng.standard_normal(group.size))
    return Monomial(order, factor)


def _plane_signs(group: Group, rng: np.random.Generator) -> Monomial:
    half = rng.choice([-1.0, 1.0], group.size // 2)
    return Monomial(np.arange(group.size), np.concatenate([half, half]))


def _invertible(group: Group, rng: np.random.Generator) -> Linear:
    q, r = np.linalg.qr(rng.standard_normal((group.size, group.size)))
    scale = np.exp(0.5 * rng.standard_normal(group.size))
    return Linear(scale[:, None] * (q * np.sign(np.diag(r))))


def _planes(group: Group, rng: np.random.Generator) -> Linear:
    """Rotation and scale of each pair (i, i + size/2), the layout in which transformers rotates halves."""
    half = group.size // 2
    angle = rng.uniform(0, 2 * np.pi, half)
    scale = np.exp(0.5 * rng.standard_normal(half))
    cosine, sine = np.diag(scale * np.cos(angle)), np.diag(scale * np.sin(angle))
    return Linear(np.block([[cosine, -sine], [sine, cosine]]))


_DRAWS: dict[Kind, Callable[[Group, np.random.Generator], Monomial | Linear]] = {
    Kind.INVERTIBLE: _invertible,
    Kind.PLANES: _planes,
    Kind.PLANE_SIGNS: _plane_signs,
}
