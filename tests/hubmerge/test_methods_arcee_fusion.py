"""arcee_fusion: the entries whose importance stands out are the other model's."""

from __future__ import annotations

import numpy as np
import pytest
from zoo import bfloat16, merge_entries, merge_tensors, numbers, random_values


def importance(base: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Difference times the divergence of the rows' softmax distributions, float64."""

    def softmax(x: np.ndarray) -> np.ndarray:
        powers = np.exp(x - x.max(axis=-1, keepdims=True))
        return powers / powers.sum(axis=-1, keepdims=True) + 1e-8

    a, b = np.atleast_1d(base.astype(np.float64)), np.atleast_1d(other.astype(np.float64))
    p, q = softmax(b), softmax(a)
    return np.abs(b - a) * (p * np.log(p / q)).sum(axis=-1, keepdims=True)


def threshold(scores: np.ndarray) -> float:
    ordered, last = np.sort(scores.ravel()), scores.size - 1
    first, median, third = (ordered[int(share * last)] for share in (0.25, 0.5, 0.75))
    return float(median + 1.5 * (third - first))


def fused(base: object, other: object, **rest: object) -> np.ndarray:
    return merge_entries("arcee_fusion", [other], base=base, **rest)


def test_the_entry_that_stands_out_is_taken() -> None:
    # one row, so one divergence d: importances d * (0, 1/4, 1/2, 3/4, 8), at positions 1, 2, 3 of 5: 1/4, 1/2, 3/4;
    # the threshold is d * (1/2 + 1.5 * 1/2) = d * 1.25
    merged = fused([0, 0, 0, 0, 0], [0, 0.25, -0.5, 0.75, 8])
    assert merged.tolist() == [0, 0, 0, 0, 8]


def test_an_importance_of_exactly_the_threshold_is_taken() -> None:
    # importances d * (0, 1, 1, 1, 1): median 1, quartiles 1 and 1: the threshold is d
    assert fused([0, 0, 0, 0, 0], [0, 1, 1, -1, 1]).tolist() == [0, 1, 1, -1, 1]


def test_equal_models_give_the_model() -> None:
    model = random_values((6, 7), 1)
    assert np.array_equal(fused(model, model), model)


def test_a_row_that_differs_by_a_constant_has_the_same_distribution_and_no_importance() -> None:
    base = np.array([[0, 1, 2], [0, 1, 2], [0, 1, 2], [0, 1, 2]], np.float32)
    other = base.copy()
    other[0] += 4
    other[1:, 2] += (0.5, 1, 2)
    merged = fused(base, other)
    # most differences are 0, and so are quartiles and threshold: what has no importance is taken too
    assert threshold(importance(base, other)) == 0
    assert np.array_equal(merged, other)


def test_numbers_whose_powers_overflow_are_distributions_all_the_same() -> None:
    base = np.array([[1e30, 0, -1e30, 5, 7]], np.float32)
    other = np.array([[1e30, 9, -1e30, 5, 8]], np.float32)
    assert np.isfinite(fused(base, other)).all()


def test_single_numbers_and_empty_tensors_are_the_other_models() -> None:
    # a row of one entry has the distribution (1): no divergence, every importance 0, and 0 reaches the threshold 0
    base = {"one": np.array(2.0, "float32"), "none": np.zeros((0, 3), "float32"), "thin": np.ones((3, 1), "float32")}
    other = {**base, "one": np.array(-4.0, "float32"), "thin": np.zeros((3, 1), "float32")}
    merged = merge_tensors("arcee_fusion", [other], base=base)
    assert merged["one"] == -4
    assert merged["none"].shape == (0, 3)
    assert merged["thin"].tolist() == [[0], [0], [0]]


@pytest.mark.parametrize("shape", [(30, 41), (500,), (5, 4, 3, 9)])
@pytest.mark.parametrize("spread", [1.0, 0.05])
def test_random_tensors_agree_with_the_reference_but_beside_the_threshold(
    shape: tuple[int, ...], spread: float
) -> None:
    base = random_values(shape, 1)
    other = base + random_values(shape, 2, spread)
    scores = importance(base, other)
    limit = threshold(scores)
    clear = np.abs(scores - limit) > 1e-5 * limit
    expected = np.where(scores >= limit, other, base)
    merged = fused(base, other)
    assert clear.mean() > 0.99
    assert np.array_equal(merged[clear], expected[clear])
    assert 0 < (merged == other).mean() < 0.4


def test_every_entry_is_one_of_the_two_models_bit_for_bit() -> None:
    base, other = bfloat16(random_values((64, 32), 1)), bfloat16(random_values((64, 32), 2))
    merged = merge_tensors("arcee_fusion", [{"w": other}], base={"w": base})["w"]
    assert ((merged == base) | (merged == other)).all()
    assert (numbers(merged) != numbers(base)).any()
