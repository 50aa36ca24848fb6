"""karcher: the point of the sphere that is nearest to all directions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from zoo import merge_entries, random_values

from hubmerge.methods.sphere_means import karcher_coefficients

HALF = math.sqrt(0.5)


def reference(models: list[Any], max_iter: int = 10, tol: float = 1e-5) -> np.ndarray:
    """Gradient descent on the sphere with whole vectors, float64."""
    vectors = [model.astype(np.float64).ravel() for model in models]
    lengths = [np.linalg.norm(vector) for vector in vectors]
    units = [vector / length for vector, length in zip(vectors, lengths, strict=True) if length > tol]
    point = sum(units) / len(units)
    point = units[0] if np.linalg.norm(point) < tol else point / np.linalg.norm(point)
    for _ in range(max_iter):
        tangent = np.zeros_like(point)
        for unit in units:
            cosine = np.clip(unit @ point, -1, 1)
            angle = np.arccos(cosine)
            if angle >= tol:
                tangent += angle / np.sin(angle) * (unit - cosine * point) / len(units)
        step = np.linalg.norm(tangent)
        if step < tol:
            break
        point = np.cos(step) * point + np.sin(step) * tangent / step
        point /= np.linalg.norm(point)
    return (np.mean(lengths) * point).reshape(models[0].shape)


def karcher(models: list[Any], **rest: Any) -> np.ndarray:
    return merge_entries("karcher", models, **rest)


def on_the_circle(*degrees: float) -> list[list[float]]:
    return [[math.cos(math.radians(angle)), math.sin(math.radians(angle))] for angle in degrees]


def test_on_a_circle_the_mean_direction_is_the_mean_angle() -> None:
    # 0, 30 and 90 degrees: 40 degrees, where the mean of the vectors points at 38.8 degrees
    np.testing.assert_allclose(karcher(on_the_circle(0, 30, 90)), on_the_circle(40)[0], rtol=1e-5)


def test_without_steps_it_is_the_normalised_mean() -> None:
    total = np.sum(on_the_circle(0, 30, 90), axis=0)
    np.testing.assert_allclose(karcher(on_the_circle(0, 30, 90), max_iter=0), total / np.linalg.norm(total), rtol=1e-6)


def test_the_result_is_as_long_as_the_parents_are_on_average() -> None:
    np.testing.assert_allclose(karcher([[2, 0], [0, 4]]), [3 * HALF, 3 * HALF], rtol=1e-6)


def test_a_tensor_of_zeros_has_no_direction_and_still_shortens_the_mean() -> None:
    np.testing.assert_allclose(karcher([[0, 0], [0, 4]]), [0, 2], rtol=1e-6)


def test_tensors_of_zeros_alone_stay_zero() -> None:
    assert karcher([[0, 0], [0, 0]]).tolist() == [0, 0]


def test_a_single_model_is_returned_as_it_is() -> None:
    model = random_values((4, 5), 1)
    assert np.array_equal(karcher([model]), model)


def test_of_two_opposite_models_the_first_gives_the_direction() -> None:
    np.testing.assert_allclose(karcher([[1, 2], [-3, -6]]), [2, 4], rtol=1e-6)


def test_a_base_that_is_not_listed_is_one_more_parent() -> None:
    base, models = random_values((4, 5), 1), [random_values((4, 5), seed) for seed in (2, 3)]
    np.testing.assert_allclose(karcher(models, base=base), karcher([*models, base]), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("count", [2, 4])
@pytest.mark.parametrize("spread", [1.0, 0.1, 1e-3])
@pytest.mark.parametrize("rest", [{}, {"max_iter": 1, "tol": 1e-4}])
def test_random_tensors_agree_with_the_reference(count: int, spread: float, rest: dict[str, Any]) -> None:
    common = random_values((6, 9), 99)
    models = [common + random_values((6, 9), seed, spread) for seed in range(count)]
    np.testing.assert_allclose(karcher(models, **rest), reference(models, **rest), rtol=1e-5, atol=3e-6)


@given(st.lists(st.integers(-60, 60), min_size=2, max_size=6))
@settings(max_examples=40, deadline=None)
def test_the_mean_of_angles_within_a_half_circle_is_their_mean(degrees: list[int]) -> None:
    vectors = np.array(on_the_circle(*degrees))
    merged = np.array(karcher_coefficients(vectors @ vectors.T, 200, 1e-9)) @ vectors
    np.testing.assert_allclose(merged, on_the_circle(float(np.mean(degrees)))[0], atol=1e-6)
