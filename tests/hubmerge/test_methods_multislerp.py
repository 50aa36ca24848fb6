"""multislerp: directions averaged on the sphere, lengths apart from them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from zoo import merge_entries, random_values

from hubmerge.errors import MergeError, RecipeError
from hubmerge.methods.sphere_means import multislerp_coefficients

HALF = math.sqrt(0.5)
WEIGHTS = (0.3, 1.7, 0.2, 0.9)


def reference(
    models: list[Any], weight: Any, normalize: bool = True, base: Any = None, eps: float = 1e-8
) -> np.ndarray:
    """mergekit's own steps on whole vectors, float64: to the tangent space at the mean direction, and back."""
    origin = 0.0 if base is None else base.astype(np.float64).ravel()
    vectors = np.array([model.astype(np.float64).ravel() - origin for model in models])
    shares = np.array(weight) / (sum(weight) if normalize else 1)
    lengths = np.linalg.norm(vectors, axis=1)
    units = vectors / (lengths + eps)[:, None]
    mean = shares @ units
    mean /= np.linalg.norm(mean)
    tangent = shares @ (units - (units @ mean)[:, None] * mean)
    step = np.linalg.norm(tangent) + eps
    point = math.cos(step) * mean + math.sin(step) / step * tangent
    return (origin + (shares @ lengths) * point).reshape(models[0].shape)


def multislerp(models: list[Any], weight: Any = WEIGHTS, base: Any = None, **rest: Any) -> np.ndarray:
    return merge_entries("multislerp", models, base=base, own=[{"weight": w} for w in weight], **rest)


def test_the_mean_of_two_right_angled_vectors_is_between_them_and_as_long_as_they_are_on_average() -> None:
    # directions (1, 0) and (0, 1), mean length 3
    np.testing.assert_allclose(multislerp([[2, 0], [0, 4]], (1, 1)), [3 * HALF, 3 * HALF], rtol=1e-6)


def test_weights_turn_the_direction_and_weigh_the_lengths() -> None:
    # 3/4 (1, 0) + 1/4 (0, 1) has the direction (3, 1)/sqrt(10); the length is 3/4 * 2 + 1/4 * 6 = 3
    expected = np.array([3, 1]) / math.sqrt(10) * 3
    np.testing.assert_allclose(multislerp([[2, 0], [0, 6]], (3, 1)), expected, rtol=1e-6)


def test_weights_that_are_not_normalised_scale_the_result() -> None:
    # direction (1, 1)/sqrt(2), length 2 * 2 + 2 * 4
    merged = multislerp([[2, 0], [0, 4]], (2, 2), normalize_weights=False)
    np.testing.assert_allclose(merged, [12 * HALF, 12 * HALF], rtol=1e-6)


def test_with_a_base_the_deltas_are_averaged() -> None:
    np.testing.assert_allclose(
        multislerp([[12, 10], [10, 14]], (1, 1), base=[10, 10]), [10 + 3 * HALF, 10 + 3 * HALF], rtol=1e-6
    )


def test_a_single_model_is_returned_as_it_is() -> None:
    model = random_values((4, 5), 1)
    assert np.array_equal(multislerp([model], (0.7,)), model)
    np.testing.assert_allclose(multislerp([model], (0.7,), base=random_values((4, 5), 2)), model, rtol=1e-6, atol=1e-6)


def test_two_opposite_models_are_added_by_their_weights() -> None:
    assert multislerp([[1, 2], [-1, -2]], (1, 1)).tolist() == [0, 0]


def test_three_directions_that_cancel_have_no_mean_and_the_error_names_the_tensor() -> None:
    third = [-0.5, math.sqrt(0.75)], [-0.5, -math.sqrt(0.75)]
    with pytest.raises(MergeError) as caught:
        multislerp([[1, 0], *third], (1, 1, 1))
    assert str(caught.value) == (
        "the parents point in directions that cancel, so their mean has none · w · "
        "change the weights a little, or leave one of the parents out; nothing was left behind"
    )


def test_parents_that_all_equal_the_base_give_the_base() -> None:
    base = random_values((3, 4), 1)
    assert np.array_equal(multislerp([base] * 3, (1, 2, 3), base=base), base)


def test_a_parent_of_zeros_has_no_direction_but_a_length() -> None:
    # direction (0, 1) alone; mean length (0 + 4) / 2
    np.testing.assert_allclose(multislerp([[0, 0], [0, 4]], (1, 1)), [0, 2], rtol=1e-6)


def test_weights_that_sum_to_zero_are_refused_before_anything_is_read() -> None:
    with pytest.raises(RecipeError) as caught:
        multislerp([[1, 0], [0, 1]], (1, -1))
    assert str(caught.value) == (
        "weights [1.0, -1.0] sum to zero, so they cannot be normalised · recipe: parameters.weight · "
        "change the weights, or set normalize_weights: false to add them as they are"
    )


@pytest.mark.parametrize("count", [2, 4])
@pytest.mark.parametrize("base", [False, True])
@pytest.mark.parametrize("normalize", [False, True])
def test_random_tensors_agree_with_the_reference(count: int, base: bool, normalize: bool) -> None:
    models = [random_values((7, 11), seed) for seed in range(count)]
    origin = random_values((7, 11), 9) if base else None
    merged = multislerp(models, WEIGHTS[:count], origin, normalize_weights=normalize)
    np.testing.assert_allclose(merged, reference(models, WEIGHTS[:count], normalize, origin), rtol=1e-5, atol=3e-6)


def test_the_result_is_as_long_as_the_weighted_mean_of_the_lengths() -> None:
    vectors = np.random.default_rng(5).standard_normal((4, 30))
    coefficients = np.array(multislerp_coefficients(vectors @ vectors.T, WEIGHTS, True, 1e-8))
    expected = np.array(WEIGHTS) / sum(WEIGHTS) @ np.linalg.norm(vectors, axis=1)
    assert np.linalg.norm(coefficients @ vectors) == pytest.approx(expected, rel=1e-9)
