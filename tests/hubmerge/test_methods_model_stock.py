"""model_stock: from the base model towards the mean, by the angles between the deltas."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from zoo import merge_entries, merge_tensors, random_values, recipe, write_model

from hubmerge import build_plan
from hubmerge.errors import RecipeError


def ratio(deltas: np.ndarray) -> float:
    """How far to go for deltas of one group (parents, entries), float64."""
    count = len(deltas)
    cosines = []
    for i in range(count):
        for j in range(i):
            product = max(float(np.linalg.norm(deltas[i]) * np.linalg.norm(deltas[j])), 1e-6)
            cosines.append(np.clip(deltas[i] @ deltas[j] / product, -1, 1))
    cosine = float(np.mean(cosines))
    denominator = 1 + (count - 1) * cosine
    return 0.0 if abs(denominator) < 1e-6 else count * cosine / denominator


def reference(base: np.ndarray, models: list[np.ndarray], filter_wise: bool = False) -> np.ndarray:
    origin = base.astype(np.float64)
    deltas = np.array([model.astype(np.float64) - origin for model in models])
    groups = deltas.reshape(len(models), -1, base.shape[-1] if filter_wise else max(base.size, 1))
    ratios = np.array([ratio(groups[:, g]) for g in range(groups.shape[1])])
    return origin + (ratios[:, None] * groups.mean(axis=0)).reshape(base.shape)


def stock(base: Any, models: list[Any], **rest: Any) -> np.ndarray:
    return merge_entries("model_stock", models, base=base, **rest)


def test_deltas_at_sixty_degrees_go_two_thirds_of_the_way() -> None:
    # cosine 1/2, two parents: 2 * 1/2 / (1 + 1/2) = 2/3 of the mean (3/4, sqrt(3)/4) * 4
    merged = stock([1, 1], [[5, 1], [3, 1 + 2 * math.sqrt(3)]])
    np.testing.assert_allclose(merged, [1 + 2 / 3 * 3, 1 + 2 / 3 * math.sqrt(3)], rtol=1e-6)


def test_three_parents_use_the_mean_of_their_cosines() -> None:
    # deltas (1, 0), (1, 0), (0, 1): cosines 1, 0, 0, mean 1/3; 3/3 / (1 + 2/3) = 3/5 of the mean (2/3, 1/3)
    np.testing.assert_allclose(stock([0, 0], [[1, 0], [1, 0], [0, 1]]), [0.4, 0.2], rtol=1e-6)


def test_deltas_at_a_right_angle_stay_at_the_base() -> None:
    assert stock([3, 4], [[4, 4], [3, 5]]).tolist() == [3, 4]


def test_equal_deltas_go_all_the_way() -> None:
    assert stock([3, 4], [[4, 6], [4, 6]]).tolist() == [4, 6]


def test_opposite_deltas_stay_at_the_base() -> None:
    # the denominator is 0
    assert stock([3, 4], [[4, 5], [2, 3]]).tolist() == [3, 4]


def test_deltas_that_point_apart_go_away_from_the_mean() -> None:
    # cosine -1/2: 2 * -1/2 / (1 - 1/2) = -2 times the mean (1/4, sqrt(3)/4)
    merged = stock([0, 0], [[1, 0], [-0.5, math.sqrt(0.75)]])
    np.testing.assert_allclose(merged, [-0.5, -math.sqrt(0.75)], rtol=1e-6)


def test_parents_that_learned_nothing_leave_the_base() -> None:
    assert stock([3, 4], [[3, 4], [5, 4]]).tolist() == [3, 4]


def test_filter_wise_gives_every_row_its_own_ratio() -> None:
    # first row: a right angle; second row: equal deltas
    merged = stock([[0, 0], [1, 1]], [[[1, 0], [3, 1]], [[0, 1], [3, 1]]], filter_wise=True)
    assert merged.tolist() == [[0, 0], [3, 1]]


def test_a_tensor_of_one_dimension_is_one_row() -> None:
    base, models = random_values((7,), 1), [random_values((7,), seed) for seed in (2, 3)]
    assert np.array_equal(stock(base, models, filter_wise=True), stock(base, models))


def test_single_numbers_and_empty_tensors_are_merged() -> None:
    base = {"one": np.array(1.0, "float32"), "none": np.zeros((0, 3), "float32"), "thin": np.zeros((3, 0), "float32")}
    models = [{**base, "one": np.array(value, "float32")} for value in (2.0, 4.0)]
    for filter_wise in (False, True):
        merged = merge_tensors("model_stock", models, base=base, filter_wise=filter_wise)
        assert merged["one"] == 3  # all numbers of one sign are parallel: the mean
        assert merged["none"].shape == (0, 3)
        assert merged["thin"].shape == (3, 0)


def test_one_parent_has_no_angle_and_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"^model_stock takes at least 2 models beside the base; the recipe has 1 · "):
        stock([1, 2], [[3, 4]])


def test_the_plan_knows_what_rows_cost(tmp_path: Path) -> None:
    folders = [write_model(tmp_path / name, {"w": random_values((50, 4), 1)}) for name in "abc"]
    whole, rows = (
        build_plan(recipe("model_stock", folders[1:], base=folders[0], filter_wise=filter_wise), jobs=1)
        for filter_wise in (False, True)
    )
    # for each of 50 rows 2 x 2 inner products, their lengths and cosines, counted as 32 numbers of 8 bytes
    assert rows.peak_memory == whole.peak_memory + 50 * 32 * 8


@pytest.mark.parametrize("shape", [(9, 17), (40,), (5, 4, 3, 2), (6, 1)])
@pytest.mark.parametrize("count", [2, 4])
@pytest.mark.parametrize("filter_wise", [False, True])
def test_random_tensors_agree_with_the_reference(shape: tuple[int, ...], count: int, filter_wise: bool) -> None:
    base = random_values(shape, 9)
    common = random_values(shape, 8, 0.1)
    models = [base + common + random_values(shape, seed, 0.1) for seed in range(count)]
    merged = stock(base, models, filter_wise=filter_wise)
    np.testing.assert_allclose(merged, reference(base, models, filter_wise), rtol=1e-5, atol=3e-6)
