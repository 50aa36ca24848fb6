"""nuslerp: the arc between two models or two deltas, with one angle for a tensor, a row or a column."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from zoo import merge_entries, merge_tensors, random_values, recipe, write_model

from hubmerge import build_plan
from hubmerge.methods.spherical import nuslerp_coefficients

HALF = math.sqrt(0.5)


def arc(first: np.ndarray, second: np.ndarray, t: float) -> np.ndarray:
    """The point at `t` between two vectors, float64; on the line where the sine is 0 in float32."""
    units = [v / max(float(np.linalg.norm(v)), 1e-7) for v in (first, second)]
    cosine = np.clip(units[0] @ units[1], -1, 1)
    if 1 - cosine**2 <= 2.0**-23:
        return (1 - t) * first + t * second
    angle = np.arccos(cosine)
    return (np.sin((1 - t) * angle) * first + np.sin(t * angle) * second) / np.sin(angle)


def reference(
    first: Any, second: Any, weight: tuple[float, float], base: Any = None, flatten: bool = True, row_wise: bool = False
) -> np.ndarray:
    """nuslerp vector by vector: the whole tensor, its vectors along the last dimension, or those along the first."""
    origin = 0.0 if base is None else base.astype(np.float64)
    a, b = first.astype(np.float64) - origin, second.astype(np.float64) - origin
    t = 0.5 if abs(sum(weight)) < 1e-6 else weight[1] / sum(weight)
    if flatten:
        return origin + arc(a.ravel(), b.ravel(), t).reshape(a.shape)
    axis = 0 if row_wise else -1
    rows = [np.moveaxis(x, axis, -1).reshape(-1, x.shape[axis]) for x in (a, b)]
    merged = np.stack([arc(x, y, t) for x, y in zip(*rows, strict=True)])
    moved = np.moveaxis(a, axis, -1)
    return origin + np.moveaxis(merged.reshape(moved.shape), -1, axis)


def nuslerp(models: list[Any], weight: tuple[float, float] = (1, 1), base: Any = None, **rest: Any) -> np.ndarray:
    return merge_entries("nuslerp", models, base=base, own=[{"weight": w} for w in weight], **rest)


def test_a_third_of_sixty_degrees_is_twenty() -> None:
    end = [math.cos(math.pi / 3), math.sin(math.pi / 3)]
    expected = [math.cos(math.pi / 9), math.sin(math.pi / 9)]
    np.testing.assert_allclose(nuslerp([[1, 0], end], (2, 1)), expected, rtol=1e-6)


def test_with_a_base_the_deltas_lie_on_the_arc() -> None:
    # deltas (2, 0) and (0, 2) at a right angle: halfway both coefficients are sqrt(1/2)
    merged = nuslerp([[12, 10], [10, 12]], base=[10, 10])
    np.testing.assert_allclose(merged, [10 + 2 * HALF, 10 + 2 * HALF], rtol=1e-6)


def test_only_the_ratio_of_the_weights_matters() -> None:
    models = [random_values((4, 6), 1), random_values((4, 6), 2)]
    assert np.array_equal(nuslerp(models, (1, 3)), nuslerp(models, (0.25, 0.75)))


def test_weights_that_sum_to_zero_mean_halfway() -> None:
    models = [random_values((4, 6), 1), random_values((4, 6), 2)]
    assert np.array_equal(nuslerp(models, (1, -1)), nuslerp(models, (1, 1)))
    assert np.array_equal(nuslerp(models, (0, 0)), nuslerp(models, (1, 1)))


def test_every_row_has_its_own_angle() -> None:
    # first row: a right angle; second row: parallel, so the mean
    first, second = [[1, 0], [1, 1]], [[0, 1], [3, 3]]
    merged = nuslerp([first, second], nuslerp_flatten=False)
    np.testing.assert_allclose(merged, [[HALF, HALF], [2, 2]], rtol=1e-6)


def test_row_wise_gives_every_column_its_own_angle() -> None:
    # mergekit's word: row_wise takes the vectors along the first dimension
    first, second = [[1, 1], [0, 1]], [[0, 3], [1, 3]]
    merged = nuslerp([first, second], nuslerp_flatten=False, nuslerp_row_wise=True)
    np.testing.assert_allclose(merged, [[HALF, 2], [HALF, 2]], rtol=1e-6)


@pytest.mark.parametrize("row_wise", [False, True])
def test_a_tensor_of_one_dimension_is_one_row(row_wise: bool) -> None:
    merged = nuslerp([[1, 0], [0, 1]], nuslerp_flatten=False, nuslerp_row_wise=row_wise)
    np.testing.assert_allclose(merged, [HALF, HALF], rtol=1e-6)


def test_a_vector_of_zeros_counts_as_orthogonal() -> None:
    np.testing.assert_allclose(nuslerp([[0, 0], [2, -4]]), [2 * HALF, -4 * HALF], rtol=1e-6)
    assert nuslerp([[0, 0], [0, 0]]).tolist() == [0, 0]


def test_opposite_vectors_are_interpolated_on_the_line() -> None:
    assert nuslerp([[1, 2], [-1, -2]], (3, 1)).tolist() == [0.5, 1]


def test_single_numbers_and_empty_tensors_are_merged() -> None:
    first = {"one": np.array(2.0, "float32"), "none": np.zeros((0, 3), "float32"), "thin": np.zeros((3, 0), "float32")}
    second = {**first, "one": np.array(-4.0, "float32")}
    for rest in ({}, {"nuslerp_flatten": False}, {"nuslerp_flatten": False, "nuslerp_row_wise": True}):
        merged = merge_tensors("nuslerp", [first, second], **rest)
        assert merged["one"] == -1
        assert merged["none"].shape == (0, 3)
        assert merged["thin"].shape == (3, 0)


def test_the_plan_warns_of_a_row_wise_that_changes_nothing_and_of_weights_without_a_sum(tmp_path: Path) -> None:
    folders = [write_model(tmp_path / name, {"w": random_values((3, 4), i)}) for i, name in enumerate("ab")]

    def warnings(*weights: float, **rest: Any) -> tuple[str, ...]:
        return build_plan(recipe("nuslerp", folders, own=[{"weight": w} for w in weights], **rest)).warnings

    told = (
        "nuslerp_row_wise is ignored: with nuslerp_flatten: true (the default) there is one angle for the whole tensor"
    )
    assert told in warnings(1, 1, nuslerp_row_wise=True)
    assert "weights [1.0, -1.0] sum to zero: nuslerp goes halfway, as mergekit does" in warnings(1, -1)
    quiet = warnings(1, 1, nuslerp_row_wise=True, nuslerp_flatten=False)
    assert not [warning for warning in quiet if "nuslerp" in warning]


@pytest.mark.parametrize("shape", [(9, 17), (40,), (5, 4, 3, 2), (1, 6), (6, 1)])
@pytest.mark.parametrize("base", [False, True])
@pytest.mark.parametrize(("flatten", "row_wise"), [(True, False), (False, False), (False, True)])
def test_random_tensors_agree_with_the_reference(
    shape: tuple[int, ...], base: bool, flatten: bool, row_wise: bool
) -> None:
    origin = random_values(shape, 9) if base else None
    models = [random_values(shape, seed) for seed in (1, 2)]
    merged = nuslerp(models, (0.3, 0.9), origin, nuslerp_flatten=flatten, nuslerp_row_wise=row_wise)
    expected = reference(*models, (0.3, 0.9), origin, flatten, row_wise)
    np.testing.assert_allclose(merged, expected, rtol=1e-5, atol=3e-6)


@given(st.floats(1e-3, math.pi - 1e-3), st.floats(0, 1), st.floats(0.1, 100))
@settings(max_examples=60, deadline=None)
def test_between_equally_long_vectors_the_result_is_as_long(angle: float, share: float, length: float) -> None:
    gram = length**2 * np.array([[[1, math.cos(angle)], [math.cos(angle), 1]]])
    ends = nuslerp_coefficients(gram, (1 - share, share))[0]
    assert math.sqrt(ends @ gram[0] @ ends) == pytest.approx(length, rel=1e-6)
    # and it is where the share says: its angle to the first vector is share * angle
    assert (gram[0, 0] @ ends) / length**2 == pytest.approx(math.cos(share * angle), abs=1e-6)


def test_the_base_is_no_parent_even_when_it_is_listed() -> None:
    base, models = random_values((3, 4), 1), [random_values((3, 4), seed) for seed in (2, 3)]
    assert not np.allclose(nuslerp(models, base=base), nuslerp(models))
