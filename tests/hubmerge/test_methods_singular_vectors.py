"""tsv_m and iso_cts: leading singular vectors of every delta, made orthogonal together."""

from __future__ import annotations

import numpy as np
import pytest
from zoo import merge_entries, random_values


def merged(method: str, deltas: list[object], shape: tuple[int, ...], **rest: object) -> np.ndarray:
    return merge_entries(method, deltas, base=np.zeros(shape), **rest)


def polar(columns: np.ndarray) -> np.ndarray:
    """The polar factor from eigenvectors: X (X'X)^(-1/2), or its transpose where there are more columns than rows."""
    if columns.shape[0] < columns.shape[1]:
        return polar(columns.T).T
    values, vectors = np.linalg.eigh(columns.T @ columns)
    return columns @ vectors @ np.diag(values**-0.5) @ vectors.T


def triplets(matrix: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    left, values, right = np.linalg.svd(matrix.astype(np.float64), full_matrices=False)
    return left[:, :count], values[:count], right[:count].T


def joined(parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    left, values, right = (np.concatenate(each, axis=-1) for each in zip(*parts, strict=True))
    return polar(left), values, polar(right)


def test_directions_that_do_not_meet_are_kept_with_their_sizes() -> None:
    # each delta has its leading direction on another axis: floor(2 / 2) = 1 of each is kept, 3 and 4, the 1 and 2 are dropped
    deltas = [np.diag([3.0, 1.0]), np.diag([2.0, 4.0])]
    np.testing.assert_allclose(merged("tsv_m", deltas, (2, 2)), np.diag([3.0, 4.0]), atol=1e-6)
    np.testing.assert_allclose(merged("tsv_m", deltas, (2, 2), lambda_=0.5), np.diag([1.5, 2.0]), atol=1e-6)


def test_iso_cts_by_hand() -> None:
    """Four directions, two parents, half of them common: one each (2 and 3), and the two largest of the sum (10 and 8)."""
    deltas = [np.diag([5.0, 4.0, 2.0, 0.0]), np.diag([5.0, 4.0, 0.0, 3.0])]
    found = merged("iso_cts", deltas, (4, 4), common=0.5)
    np.testing.assert_allclose(found, (10 + 8 + 2 + 3) / 4 * np.eye(4), atol=1e-5)


@pytest.mark.parametrize("shape", [(8, 6), (6, 9)])
@pytest.mark.parametrize("parents", [2, 3])
def test_tsv_m_is_what_the_paper_writes(shape: tuple[int, int], parents: int) -> None:
    deltas = [random_values(shape, seed) for seed in range(parents)]
    left, values, right = joined([triplets(delta, 6 // parents) for delta in deltas])
    np.testing.assert_allclose(merged("tsv_m", deltas, shape), left * values @ right.T, atol=1e-4)


@pytest.mark.parametrize("shape", [(10, 12), (14, 10)])
@pytest.mark.parametrize("parents", [2, 3])
def test_iso_cts_is_what_the_paper_writes(shape: tuple[int, int], parents: int) -> None:
    deltas = [random_values(shape, seed) for seed in range(parents)]
    own = round((10 - 8) / parents)
    first = triplets(np.sum(deltas, axis=0), 10 - own * parents)
    beside = [triplets(delta - first[0] @ (first[0].T @ delta), own) for delta in deltas]
    left, values, right = joined([*beside, first])
    np.testing.assert_allclose(merged("iso_cts", deltas, shape), values.mean() * left @ right.T, atol=1e-4)


def test_square_matrices_are_decomposed_in_float64() -> None:
    """Of 64 by 64 the singular vectors side by side are nearly dependent: in float32 the results were off by up to 3e-5."""
    deltas = [random_values((64, 64), seed) for seed in range(8)]
    exact = [delta.astype(np.float64) for delta in deltas]
    left, values, right = joined([triplets(delta, 8) for delta in exact])
    wanted = left * values @ right.T
    assert np.linalg.norm(merged("tsv_m", deltas, (64, 64)) - wanted) < 1e-6 * np.linalg.norm(wanted)
    first = triplets(np.sum(exact, axis=0), 64 - 2 * 8)
    beside = [triplets(delta - first[0] @ (first[0].T @ delta), 2) for delta in exact]
    left, values, right = joined([*beside, first])
    wanted = values.mean() * left @ right.T
    assert np.linalg.norm(merged("iso_cts", deltas, (64, 64)) - wanted) < 1e-6 * np.linalg.norm(wanted)


@pytest.mark.parametrize("method", ["tsv_m", "iso_cts"])
def test_what_is_no_matrix_gets_the_mean_of_the_deltas(method: str) -> None:
    assert merged(method, [[2, 4], [0, -2]], (2,)).tolist() == [1, 1]
    assert np.array_equal(
        merged(method, [np.ones((2, 1, 3, 3)), 3 * np.ones((2, 1, 3, 3))], (2, 1, 3, 3)), 2 * np.ones((2, 1, 3, 3))
    )


@pytest.mark.parametrize("method", ["tsv_m", "iso_cts"])
def test_deltas_of_low_rank_add_no_direction_that_none_of_them_has(method: str) -> None:
    base = random_values((12, 10), 3)
    parents = [base + random_values((12, 2), seed) @ random_values((2, 10), seed + 5) for seed in (1, 2)]
    found = merge_entries(method, parents, base=base) - base
    space = np.linalg.svd(np.concatenate([parent - base for parent in parents], axis=1))[0][:, :4]
    np.testing.assert_allclose(space @ (space.T @ found), found, atol=1e-4)
    assert np.linalg.matrix_rank(found, tol=1e-3) <= 4


@pytest.mark.parametrize("method", ["tsv_m", "iso_cts"])
def test_parents_that_learned_nothing_change_nothing(method: str) -> None:
    base = random_values((4, 5), 0)
    assert np.array_equal(merge_entries(method, [base, base], base=base), base)


def test_more_parents_than_directions() -> None:
    deltas = [random_values((2, 3), seed) for seed in range(5)]
    assert np.isfinite(merged("tsv_m", deltas, (2, 3))).all()
    assert np.isfinite(merged("iso_cts", deltas, (2, 3), common=0.0)).all()
