"""iso_c: every direction of the summed deltas gets the mean singular value."""

from __future__ import annotations

import numpy as np
import pytest
from zoo import merge_entries, merge_tensors, random_values


def reference(base: np.ndarray, parents: list[np.ndarray], scale: float = 1.0) -> np.ndarray:
    """The method in float64 numpy, from the eigenvectors of the smaller Gram matrix instead of an SVD."""
    origin = base.astype(np.float64)
    total = sum(parent.astype(np.float64) - origin for parent in parents)
    if total.ndim != 2:
        return origin + scale * total / len(parents)
    tall = total if total.shape[0] >= total.shape[1] else total.T
    squares, vectors = np.linalg.eigh(tall.T @ tall)
    kept = squares > 1e-9 * max(squares.max(initial=0.0), 1e-300)
    values, vectors = np.sqrt(squares[kept]), vectors[:, kept]
    flat = values.mean() * (tall @ vectors / values) @ vectors.T if kept.any() else np.zeros_like(tall)
    return origin + scale * (flat if tall is total else flat.T)


def iso(deltas: list[object], shape: tuple[int, ...], **rest: object) -> np.ndarray:
    return merge_entries("iso_c", deltas, base=np.zeros(shape), **rest)


def test_a_diagonal_sum_becomes_its_mean_times_the_identity() -> None:
    # the deltas sum to diag(3, 1), whose singular values have the mean 2
    merged = iso([[[1, 0], [0, 1]], [[2, 0], [0, 0]]], (2, 2))
    np.testing.assert_allclose(merged, [[2, 0], [0, 2]], atol=1e-6)


def test_signs_and_directions_stay() -> None:
    # [[0, -4], [2, 0]] has the singular values 4 and 2
    merged = iso([[[0, -4], [2, 0]]], (2, 2))
    np.testing.assert_allclose(merged, [[0, -3], [3, 0]], atol=1e-6)


def test_lambda_scales_the_merged_delta() -> None:
    np.testing.assert_allclose(iso([[[3, 0], [0, 1]]], (2, 2), lambda_=0.25), [[0.5, 0], [0, 0.5]], atol=1e-6)


def test_what_is_no_matrix_gets_the_mean_of_the_deltas() -> None:
    assert iso([[2, 4], [0, -2]], (2,)).tolist() == [1, 1]
    kernels = [np.full((2, 1, 3, 3), value) for value in (1.0, 5.0)]
    assert np.array_equal(iso(kernels, (2, 1, 3, 3)), np.full((2, 1, 3, 3), 3.0))


def test_a_sum_of_rank_one_keeps_its_one_direction_and_nothing_else() -> None:
    column, row = np.array([[1.0], [2.0], [2.0]]), np.array([[3.0, 4.0]])
    np.testing.assert_allclose(iso([column @ row], (3, 2)), column @ row, atol=1e-5)


def test_a_low_rank_sum_is_flattened_over_its_own_rank() -> None:
    left, right = random_values((12, 3), 1), random_values((3, 10), 2)
    base = random_values((12, 10), 3)
    merged = merge_entries("iso_c", [base + left @ right], base=base)
    values = np.linalg.svd(merged - base)[1]
    np.testing.assert_allclose(values[:3], np.linalg.svd(left @ right)[1][:3].mean(), rtol=1e-4)
    np.testing.assert_allclose(values[3:], 0, atol=1e-5)


def test_a_weak_direction_of_a_large_matrix_is_a_direction() -> None:
    # 299 values of 1 and one of 1e-5, far above the 2 * 1.2e-7 that float32 may have rounded away: all get their mean
    weak = np.eye(300)
    weak[299, 299] = 1e-5
    np.testing.assert_allclose(iso([weak], (300, 300)), (299 + 1e-5) / 300 * np.eye(300), atol=1e-6)


def test_deltas_that_cancel_leave_the_base() -> None:
    base = random_values((4, 3), 1)
    delta = np.round(random_values((4, 3), 2) * 8)  # whole numbers, so that the sum is exactly zero
    whole = np.round(base * 8)
    assert np.array_equal(merge_entries("iso_c", [whole + delta, whole - delta], base=whole), whole)


def test_tensors_without_shape_and_without_entries_are_merged_like_all_others() -> None:
    base = {"scale": np.array(2.0, "float32"), "empty": np.zeros((0, 3), "float32"), "w": np.eye(2, dtype="float32")}
    other = {"scale": np.array(4.0, "float32"), "empty": np.zeros((0, 3), "float32"), "w": np.eye(2, dtype="float32")}
    merged = merge_tensors("iso_c", [other], base=base, lambda_=0.5)
    assert merged["scale"].shape == ()
    assert merged["scale"] == 3
    assert merged["empty"].shape == (0, 3)
    assert np.array_equal(merged["w"], np.eye(2))


@pytest.mark.parametrize("shape", [(6, 6), (9, 4), (3, 8), (1, 5), (5, 1)])
def test_random_matrices_agree_with_the_method_in_float64(shape: tuple[int, int]) -> None:
    base = random_values(shape, 99)
    parents = [base + random_values(shape, seed) for seed in range(3)]
    merged = merge_entries("iso_c", parents, base=base, lambda_=0.8)
    np.testing.assert_allclose(merged, reference(base, parents, 0.8), rtol=1e-4, atol=1e-5)


def test_all_directions_have_the_same_length_afterwards() -> None:
    base = np.zeros((8, 5), "float32")
    values = np.linalg.svd(merge_entries("iso_c", [random_values((8, 5), 1), random_values((8, 5), 2)], base=base))[1]
    np.testing.assert_allclose(values, values.mean(), rtol=1e-5)
