"""slerp: along the arc between two models."""

from __future__ import annotations

import math

import numpy as np
import pytest
from zoo import merge_entries, merge_tensors, random_values

HALF = math.sqrt(0.5)


def reference(start: np.ndarray, end: np.ndarray, t: float) -> np.ndarray:
    """The arc in float64, linear where the two are almost parallel; a zero tensor is at a right angle to all others."""
    a, b = start.astype(np.float64).ravel(), end.astype(np.float64).ravel()
    lengths = [norm if (norm := np.linalg.norm(v)) > 1e-8 else 1.0 for v in (a, b)]
    cosine = np.clip(a @ b / lengths[0] / lengths[1], -1, 1)
    if abs(cosine) > 0.9995:
        merged = (1 - t) * a + t * b
    else:
        angle = np.arccos(cosine)
        merged = (np.sin((1 - t) * angle) * a + np.sin(t * angle) * b) / np.sin(angle)
    return merged.reshape(start.shape)


def arc(start: object, end: object, t: float) -> np.ndarray:
    return merge_entries("slerp", [end], base=start, t=t)


def test_halfway_between_two_directions_at_a_right_angle() -> None:
    np.testing.assert_allclose(arc([1, 0], [0, 1], 0.5), [HALF, HALF], rtol=1e-7)


def test_a_third_of_sixty_degrees_is_twenty() -> None:
    end = [math.cos(math.pi / 3), math.sin(math.pi / 3)]
    np.testing.assert_allclose(arc([1, 0], end, 1 / 3), [math.cos(math.pi / 9), math.sin(math.pi / 9)], rtol=1e-6)


def test_tensors_keep_their_lengths_along_the_arc() -> None:
    # the coefficients of a right angle at t = 1/3 are sin 60 and sin 30 degrees, whatever the lengths
    np.testing.assert_allclose(arc([4, 0], [0, 2], 1 / 3), [4 * math.sqrt(0.75), 1], rtol=1e-6)


def test_the_ends_of_the_arc_are_the_models_themselves() -> None:
    start, end = random_values((5, 3), 1), random_values((5, 3), 2)
    assert np.array_equal(arc(start, end, 0), start)
    assert np.array_equal(arc(start, end, 1), end)


@pytest.mark.parametrize(("t", "expected"), [(2.0, [-1, 0]), (-1.0, [0, -1]), (1.5, [-HALF, HALF])])
def test_t_outside_its_range_goes_on_around_the_circle(t: float, expected: list[float]) -> None:
    np.testing.assert_allclose(arc([1, 0], [0, 1], t), expected, atol=1e-7)


def test_parallel_tensors_are_interpolated_on_the_line() -> None:
    assert arc([1, 2], [3, 6], 0.25).tolist() == [1.5, 3]


def test_opposite_tensors_are_interpolated_on_the_line() -> None:
    assert arc([1, 2], [-1, -2], 0.25).tolist() == [0.5, 1]


@pytest.mark.parametrize(("cosine", "is_line"), [(0.9994, False), (0.9996, True)])
def test_the_line_begins_at_a_cosine_of_0_9995(cosine: float, is_line: bool) -> None:
    end = np.array([cosine, math.sqrt(1 - cosine**2)])
    merged = arc([1, 0], end, 0.25)
    angle = math.acos(cosine)
    line = 0.75 * np.array([1, 0]) + 0.25 * end
    curve = (math.sin(0.75 * angle) * np.array([1, 0]) + math.sin(0.25 * angle) * end) / math.sin(angle)
    assert np.abs(line - curve).max() > 4e-5  # the two differ enough to be told apart
    np.testing.assert_allclose(merged, line if is_line else curve, atol=1e-6)


def test_a_zero_tensor_counts_as_orthogonal() -> None:
    np.testing.assert_allclose(arc([0, 0], [2, -4], 0.5), [2 * HALF, -4 * HALF], rtol=1e-6)
    np.testing.assert_allclose(arc([2, -4], [0, 0], 0.5), [2 * HALF, -4 * HALF], rtol=1e-6)


def test_two_zero_tensors_stay_zero() -> None:
    assert arc([0, 0], [0, 0], 0.5).tolist() == [0, 0]


def test_a_single_number_is_parallel_to_every_other() -> None:
    base = {"scale": np.array(2.0, "float32"), "empty": np.zeros((0, 3), "float32"), "w": np.ones(2, "float32")}
    other = {"scale": np.array(-4.0, "float32"), "empty": np.zeros((0, 3), "float32"), "w": np.ones(2, "float32")}
    merged = merge_tensors("slerp", [other], base=base, t=0.5)
    assert merged["scale"] == -1
    assert merged["empty"].shape == (0, 3)
    assert merged["w"].tolist() == [1, 1]


@pytest.mark.parametrize("t", [0.3, 0.5, 1.2])
def test_one_angle_holds_for_the_whole_tensor_whatever_its_shape(t: float) -> None:
    start, end = random_values((3, 5, 2), 3), random_values((3, 5, 2), 4)
    np.testing.assert_allclose(arc(start, end, t), reference(start, end, t), rtol=1e-6, atol=1e-6)


def test_every_tensor_has_its_own_angle() -> None:
    base = {"a": np.array([1, 0], "float32"), "b": np.array([1, 0], "float32")}
    other = {"a": np.array([0, 1], "float32"), "b": np.array([3, 0], "float32")}
    merged = merge_tensors("slerp", [other], base=base, t=0.5)
    np.testing.assert_allclose(merged["a"], [HALF, HALF], rtol=1e-7)
    assert merged["b"].tolist() == [2, 0]


def test_numbers_whose_squares_overflow_float32_have_an_angle_all_the_same() -> None:
    # the inner products are float64: 1e30 squared is far beyond float32
    np.testing.assert_allclose(arc([1e30, 0], [0, 1e30], 0.5), [HALF * 1e30, HALF * 1e30], rtol=1e-6)
