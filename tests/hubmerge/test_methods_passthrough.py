"""passthrough: one model, unchanged, scaled, or in another type."""

from __future__ import annotations

import numpy as np
import pytest
from zoo import bfloat16, merge_entries, merge_tensors, numbers, random_values, stored_as


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
def test_a_model_passed_through_keeps_its_bytes(dtype: str) -> None:
    values = stored_as(random_values((5, 7), 1), dtype)
    values.flat[0] = stored_as(np.float32(-0.0), dtype)  # a zero keeps its sign
    assert merge_tensors("passthrough", [{"w": values}])["w"].tobytes() == values.tobytes()


def test_every_entry_is_scaled() -> None:
    assert merge_entries("passthrough", [[1, -2, 0.5]], scale=-2).tolist() == [-2, 4, -1]


def test_a_filter_scales_some_tensors_and_leaves_the_others_alone() -> None:
    tensors = {"mlp.w": np.array([1, 2], "float32"), "attn.w": np.array([1, 2], "float32")}
    merged = merge_tensors("passthrough", [tensors], scale=[{"filter": "mlp", "value": 3}])
    assert merged["mlp.w"].tolist() == [3, 6]
    assert merged["attn.w"].tolist() == [1, 2]


def test_another_type_rounds_each_entry_once() -> None:
    values = np.array([1.0, 1.00390625, 1.01171875, -3.1415927], "float32")  # 1 + 1/256 and 1 + 3/256 are ties
    merged = merge_tensors("passthrough", [{"w": values}], dtype="bfloat16")["w"]
    assert merged.tobytes() == bfloat16(values).tobytes()
    assert numbers(merged).tolist() == [1.0, 1.0, 1.015625, -3.140625]


def test_bfloat16_becomes_float32_without_loss() -> None:
    values = bfloat16(random_values((5, 7), 1))
    assert np.array_equal(merge_tensors("passthrough", [{"w": values}], dtype="float32")["w"], numbers(values))


def test_float64_is_computed_in_float32_when_it_is_scaled() -> None:
    values = np.array([0.1, 1 / 3], "float64")
    merged = merge_tensors("passthrough", [{"w": values}], scale=2.0)["w"]
    assert merged.dtype == np.float64
    assert np.array_equal(merged, (values.astype(np.float32) * np.float32(2)).astype(np.float64))


def test_tensors_without_shape_and_without_entries_pass_through() -> None:
    tensors = {"scale": np.array(2.0, "float32"), "empty": np.zeros((0, 3), "float32"), "w": np.ones(2, "float32")}
    for scale in (1.0, 2.0):
        merged = merge_tensors("passthrough", [tensors], scale=scale)
        assert merged["scale"].shape == ()
        assert merged["scale"] == 2 * scale
        assert merged["empty"].shape == (0, 3)


def test_running_statistics_are_never_scaled() -> None:
    tensors = {"bn.running_var": np.array([2, 4], "float32"), "bn.weight": np.array([2, 4], "float32")}
    merged = merge_tensors("passthrough", [tensors], scale=-1.0)
    assert merged["bn.running_var"].tolist() == [2, 4]
    assert merged["bn.weight"].tolist() == [-2, -4]
