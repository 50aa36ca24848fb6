"""nearswap: near entries become the other model's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from zoo import merge_entries, random_values

from hubmerge.errors import RecipeError


def test_near_entries_become_the_other_models_and_far_ones_move_by_t() -> None:
    merged = merge_entries("nearswap", [[1.25, 1.5, 3, -3]], base=[1, 1, 1, 1], t=0.5)
    assert merged.tolist() == [1.25, 1.5, 1.5, 0.5]


def test_t_of_zero_is_the_base_model() -> None:
    base, other = random_values((50,), 1), random_values((50,), 2)
    assert np.array_equal(merge_entries("nearswap", [other], base=base, t=0), base)


def test_a_large_t_is_the_other_model() -> None:
    base, other = random_values((50,), 1), random_values((50,), 2)
    assert np.array_equal(merge_entries("nearswap", [other], base=base, t=100), other)


def test_differences_below_a_millionth_count_as_one_as_in_mergekit() -> None:
    # t is half of 1e-6, so half of the way
    other = np.float32(2.0**-24)
    merged = merge_entries("nearswap", [[other]], base=[0], t=5e-7)
    np.testing.assert_allclose(merged, [other / 2], rtol=1e-6)


def test_a_negative_t_is_refused() -> None:
    with pytest.raises(RecipeError) as caught:
        merge_entries("nearswap", [[1]], base=[0], t=-0.1)
    assert str(caught.value) == (
        "t must be in [0, inf), got -0.1 · recipe: parameters.t · "
        "t: entries that differ by at most this become the other model's"
    )


def test_a_second_model_beside_the_base_is_one_too_many() -> None:
    with pytest.raises(RecipeError, match=r"^nearswap takes 2 models, the base among them; the recipe has 3 · "):
        merge_entries("nearswap", [[1], [2]], base=[0], t=0.1)


@pytest.mark.parametrize("t", [1e-3, 0.1, 1.0])
def test_random_tensors_agree_with_the_reference(t: float) -> None:
    base, other = random_values((30, 40), 1), random_values((30, 40), 2, 0.5)
    a, b = base.astype(np.float64), other.astype(np.float64)
    share = np.clip(t / np.maximum(np.abs(a - b), 1e-6), 0, 1)
    merged = merge_entries("nearswap", [other], base=base, t=t)
    np.testing.assert_allclose(merged, share * b + (1 - share) * a, rtol=1e-5, atol=1e-6)


@given(st.lists(st.floats(-8, 8, width=16), min_size=4, max_size=4), st.floats(0, 4, width=16))
@settings(max_examples=25, deadline=None)
def test_no_entry_moves_by_more_than_t_or_beyond_the_other_model(other: list[float], t: float) -> None:
    base = [0.5, -2, 0, 7]
    merged = merge_entries("nearswap", [other], base=base, t=t)
    moved, way = merged.astype(np.float64) - base, np.array(other) - base
    assert (np.abs(moved) <= np.minimum(np.abs(way), t) * (1 + 1e-6) + 1e-5).all()
    assert (moved * way >= 0).all()
