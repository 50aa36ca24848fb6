"""linear: a weighted average of parents."""

from __future__ import annotations

import numpy as np
import pytest
from zoo import merge_entries, merge_tensors, random_values

from hubmerge import RecipeError


def reference(parents: list[np.ndarray], weight: list[float], normalize: bool) -> np.ndarray:
    """The definition in float64: the sum of weight times parent, divided by the sum of the weights."""
    total = sum(w * parent.astype(np.float64) for w, parent in zip(weight, parents, strict=True))
    return total / sum(weight) if normalize else total


def weighted(*weights: float) -> list[dict[str, float]]:
    return [{"weight": weight} for weight in weights]


def test_without_weights_every_parent_counts_the_same() -> None:
    assert merge_entries("linear", [[1, 2, 6], [3, 2, -2]]).tolist() == [2, 2, 2]


def test_weights_are_divided_by_their_sum() -> None:
    # a quarter of [1, 2, 4] and three quarters of [5, 2, -4]
    assert merge_entries("linear", [[1, 2, 4], [5, 2, -4]], own=weighted(1, 3)).tolist() == [4, 2, -2]


def test_weights_are_taken_as_they_are_when_they_are_not_normalised() -> None:
    merged = merge_entries("linear", [[1, 2, 4], [5, 2, -4]], own=weighted(1, 3), normalize=False)
    assert merged.tolist() == [16, 8, -8]


def test_a_negative_weight_leads_away_from_its_parent() -> None:
    # twice [1, 2] less once [0, 4]
    assert merge_entries("linear", [[1, 2], [0, 4]], own=weighted(2, -1)).tolist() == [2, 0]


def test_weights_that_cancel_are_refused_before_any_weight_is_read() -> None:
    with pytest.raises(RecipeError) as refused:
        merge_entries("linear", [[1, 2], [0, 4]], own=weighted(1, -1))
    assert str(refused.value) == (
        "weights [1.0, -1.0] sum to zero, so they cannot be normalised · recipe: parameters.weight · "
        "change the weights, or set normalize: false to add them as they are"
    )


def test_weights_that_cancel_add_up_to_a_difference_when_they_are_not_normalised() -> None:
    assert merge_entries("linear", [[1, 2], [0, 4]], own=weighted(1, -1), normalize=False).tolist() == [1, -2]


def test_one_model_alone_is_its_own_average() -> None:
    assert merge_entries("linear", [[1, -2, 3]], own=weighted(0.25)).tolist() == [1, -2, 3]


def test_tensors_without_shape_and_without_entries_are_merged_like_all_others() -> None:
    first = {"scale": np.array(2.0, "float32"), "empty": np.zeros((0, 3), "float32"), "w": np.ones(2, "float32")}
    second = {"scale": np.array(4.0, "float32"), "empty": np.zeros((0, 3), "float32"), "w": np.zeros(2, "float32")}
    merged = merge_tensors("linear", [first, second])
    assert merged["scale"].shape == ()
    assert merged["scale"] == 3
    assert merged["empty"].shape == (0, 3)
    assert merged["w"].tolist() == [0.5, 0.5]


@pytest.mark.parametrize("parents", [1, 2, 3, 5])
@pytest.mark.parametrize("normalize", [True, False])
def test_random_tensors_agree_with_the_definition_in_float64(parents: int, normalize: bool) -> None:
    values = [random_values((7, 11), seed) for seed in range(parents)]
    weight = [0.3, 1.7, -0.4, 0.05, 2.0][:parents]
    merged = merge_entries("linear", values, own=weighted(*weight), normalize=normalize)
    np.testing.assert_allclose(merged, reference(values, weight, normalize), rtol=1e-6, atol=2e-6)


def test_a_weight_by_tensor_name_holds_for_these_tensors_only() -> None:
    rows = [{"model.mlp.w": np.full(2, v, "float32"), "model.attn.w": np.full(2, v, "float32")} for v in (0, 8)]
    own = [{"weight": [{"filter": "mlp", "value": 3}, {"value": 1}]}, {"weight": 1}]
    merged = merge_tensors("linear", rows, own=own)
    assert merged["model.mlp.w"].tolist() == [2, 2]
    assert merged["model.attn.w"].tolist() == [4, 4]
