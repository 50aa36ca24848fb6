"""task_arithmetic: parents' deltas, weighted, on top of the base model."""

from __future__ import annotations

import numpy as np
import pytest
from zoo import merge_entries, merge_tensors, random_values

BASE = [1, 1, 1]
PARENTS = [[3, 1, 0], [2, -1, 1]]  # deltas [2, 0, -1] and [1, -2, 0]


def reference(
    base: np.ndarray, parents: list[np.ndarray], weight: list[float], scale: float, normalize: bool
) -> np.ndarray:
    """The definition in float64."""
    origin = base.astype(np.float64)
    total = sum(w * (parent.astype(np.float64) - origin) for w, parent in zip(weight, parents, strict=True))
    share = sum(weight)
    return origin + scale * total / (share if normalize and abs(share) >= 1e-8 else 1)


def weighted(*weights: float) -> list[dict[str, float]]:
    return [{"weight": weight} for weight in weights]


def test_deltas_are_added_to_the_base() -> None:
    # 1 + 2 + 1, 1 + 0 - 2, 1 - 1 + 0
    assert merge_entries("task_arithmetic", PARENTS, base=BASE).tolist() == [4, -1, 0]


def test_each_delta_is_multiplied_by_its_weight() -> None:
    # 1 + 2 * 2 + 0.5 * 1, 1 + 0.5 * -2, 1 + 2 * -1
    merged = merge_entries("task_arithmetic", PARENTS, base=BASE, own=weighted(2, 0.5))
    assert merged.tolist() == [5.5, 0, -1]


def test_a_negative_weight_forgets() -> None:
    assert merge_entries("task_arithmetic", PARENTS[:1], base=BASE, own=weighted(-1)).tolist() == [-1, 1, 2]


def test_lambda_scales_the_sum_of_the_deltas() -> None:
    # 1 + 0.5 * 3, 1 + 0.5 * -2, 1 + 0.5 * -1
    assert merge_entries("task_arithmetic", PARENTS, base=BASE, lambda_=0.5).tolist() == [2.5, 0, 0.5]


def test_normalised_weights_average_the_deltas() -> None:
    # (1 * 2 + 3 * 1) / 4, (3 * -2) / 4, (1 * -1) / 4, on top of 1
    merged = merge_entries("task_arithmetic", PARENTS, base=BASE, own=weighted(1, 3), normalize=True)
    assert merged.tolist() == [2.25, -0.5, 0.75]


def test_normalised_weights_that_cancel_are_not_divided() -> None:
    # 1 + 2 - 1, 1 + 0 + 2, 1 - 1 - 0
    merged = merge_entries("task_arithmetic", PARENTS, base=BASE, own=weighted(1, -1), normalize=True)
    assert merged.tolist() == [2, 3, 0]


def test_weights_of_zero_leave_the_base() -> None:
    assert merge_entries("task_arithmetic", PARENTS, base=BASE, own=weighted(0, 0)).tolist() == BASE


def test_a_base_that_is_listed_among_the_models_adds_no_delta() -> None:
    parents = [{"w": np.array(values, "float32")} for values in PARENTS]
    base = {"w": np.array(BASE, "float32")}
    assert merge_tensors("task_arithmetic", [*parents, base], base=base)["w"].tolist() == [4, -1, 0]


def test_tensors_without_shape_and_without_entries_are_merged_like_all_others() -> None:
    base = {"scale": np.array(2.0, "float32"), "empty": np.zeros((0, 3), "float32"), "w": np.ones(2, "float32")}
    other = {"scale": np.array(4.0, "float32"), "empty": np.zeros((0, 3), "float32"), "w": np.zeros(2, "float32")}
    merged = merge_tensors("task_arithmetic", [other], base=base, lambda_=0.5)
    assert merged["scale"].shape == ()
    assert merged["scale"] == 3
    assert merged["empty"].shape == (0, 3)


@pytest.mark.parametrize("parents", [1, 2, 4])
@pytest.mark.parametrize("normalize", [True, False])
def test_random_tensors_agree_with_the_definition_in_float64(parents: int, normalize: bool) -> None:
    base = random_values((9, 5), 99)
    values = [base + random_values((9, 5), seed, 0.1) for seed in range(parents)]
    weight = [0.3, 1.7, -0.4, 0.9][:parents]
    merged = merge_entries(
        "task_arithmetic", values, base=base, own=weighted(*weight), normalize=normalize, lambda_=0.7
    )
    np.testing.assert_allclose(merged, reference(base, values, weight, 0.7, normalize), rtol=1e-6, atol=1e-6)


def test_lambda_may_be_another_one_in_every_layer_and_part() -> None:
    names = [f"model.layers.{i}.{part}.weight" for i in range(3) for part in ("attn", "mlp")]
    base = {name: np.zeros(2, "float32") for name in names}
    parent = {name: np.ones(2, "float32") for name in names}
    merged = merge_tensors("task_arithmetic", [parent], base=base, lambda_=[0, 1])
    assert [merged[name].tolist() for name in names] == [[v, v] for v in (0, 0, 0.5, 0.5, 1, 1)]
    by_part = [{"filter": "mlp", "value": [0, 2]}, {"filter": "layers.1.", "value": -1}, {"value": 3}]
    merged = merge_tensors("task_arithmetic", [parent], base=base, lambda_=by_part)
    assert [merged[name].tolist() for name in names] == [[v, v] for v in (3, 0, -1, 1, 3, 2)]
