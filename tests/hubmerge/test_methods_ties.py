"""ties: trim, elect a sign, average those who agree."""

from __future__ import annotations

import numpy as np
import pytest
from zoo import bfloat16, merge_entries, merge_tensors, numbers, random_values


def reference(
    base: np.ndarray,
    parents: list[np.ndarray],
    weight: list[float],
    density: list[float],
    scale: float = 1.0,
    normalize: bool = True,
) -> np.ndarray:
    """The method entry by entry, deltas in float32 as the engine has them, everything after them in float64."""
    trimmed = []
    for parent, share in zip(parents, density, strict=True):
        delta = (parent - base).astype(np.float64)
        k = max(1, int(share * delta.size))
        threshold = np.sort(np.abs(delta).ravel())[-k] if delta.size else 0.0
        trimmed.append(np.where(np.abs(delta) >= threshold, delta, 0.0))
    merged = np.empty(base.shape)
    for place in np.ndindex(base.shape):
        contributions = [w * delta[place] for w, delta in zip(weight, trimmed, strict=True)]
        sign = 1.0 if sum(contributions) >= 0 else -1.0
        agree = [(c, w) for c, w in zip(contributions, weight, strict=True) if c * sign > 0]
        total, shares = sum(c for c, _ in agree), sum(w for _, w in agree)
        merged[place] = base[place] + scale * (total / shares if normalize and shares else total)
    return merged


def ties(deltas: list[list[float]], **rest: object) -> list[float]:
    """Merge deltas on a base of zeros; the merged delta."""
    merged: list[float] = merge_entries("ties", deltas, base=np.zeros(len(deltas[0])), **rest).tolist()
    return merged


def weighted(*weights: float) -> list[dict[str, float]]:
    return [{"weight": weight} for weight in weights]


def test_an_example_worked_by_hand() -> None:
    deltas = [[4, -3, 1, 2], [2, 5, -1, -6]]
    # the larger half of each: [4, -3, 0, 0] and [0, 5, 0, -6]; signs +, + (-3 + 5), +, -
    assert ties(deltas, density=0.5) == [4, 5, 0, -6]


def test_parents_that_agree_are_averaged_by_their_weights() -> None:
    # (1 * 4 + 3 * 2) / 4; the third disagrees: 4 + 6 - 2 is positive
    assert ties([[4], [2], [-1]], own=weighted(1, 3, 2)) == [2.5]


def test_weights_count_in_the_election() -> None:
    # unweighted, + would win by 2 to 1; weighted it is 2 - 4
    assert ties([[2], [-1]], own=weighted(1, 4)) == [-1]


def test_without_normalisation_the_agreeing_deltas_are_added() -> None:
    assert ties([[4], [2], [-1]], own=weighted(1, 3, 2), normalize=False) == [10]


def test_lambda_scales_the_merged_delta() -> None:
    assert ties([[4], [2]], lambda_=0.5) == [1.5]


def test_a_delta_of_zero_agrees_with_nobody_and_does_not_thin_the_average() -> None:
    assert ties([[4, 0], [0, 0]]) == [4, 0]


def test_a_sum_of_exactly_zero_elects_plus() -> None:
    assert ties([[3, -2], [-3, 2]]) == [3, 2]


def test_a_density_so_small_that_it_keeps_less_than_one_entry_keeps_the_largest() -> None:
    assert ties([[1, -7, 3, 2]], density=0.001) == [0, -7, 0, 0]


def test_entries_that_tie_with_the_last_kept_one_all_stay() -> None:
    # half of four is two; three entries have the second largest magnitude
    assert ties([[5, -2, 2, -2]], density=0.5) == [5, -2, 2, -2]
    assert ties([[5, -2, 2, 1]], density=0.25) == [5, 0, 0, 0]


def test_each_parent_has_its_own_density() -> None:
    assert ties([[4, 1], [8, 2]], own=[{"density": 0.5}, {"density": 1}]) == [6, 2]


def test_the_number_of_kept_entries_is_rounded_down() -> None:
    assert ties([[5, 4, 3, 2, 1]], density=0.59) == [5, 4, 0, 0, 0]


def test_a_delta_that_is_zero_everywhere_is_no_delta() -> None:
    assert ties([[0, 0, 0], [1, 0, -2]], density=0.5) == [0, 0, -2]


def test_a_negative_weight_turns_its_delta_around() -> None:
    # -1 * -2 = 2 agrees with 4, and the weights of the agreeing, 3 - 1, divide: (3 * 4 + 2) / 2
    assert ties([[4], [-2]], own=weighted(3, -1)) == [7]


def test_agreeing_weights_that_cancel_do_not_divide() -> None:
    assert ties([[4], [-2]], own=weighted(1, -1)) == [6]


def test_the_base_comes_back_under_the_merged_delta() -> None:
    assert merge_entries("ties", [[11, 10], [13, 9]], base=[10, 10]).tolist() == [12, 9]


def test_tensors_without_shape_and_without_entries_are_merged_like_all_others() -> None:
    base = {"scale": np.array(2.0, "float32"), "empty": np.zeros((0, 3), "float32"), "w": np.ones(2, "float32")}
    other = {"scale": np.array(4.0, "float32"), "empty": np.zeros((0, 3), "float32"), "w": np.zeros(2, "float32")}
    merged = merge_tensors("ties", [other], base=base, density=0.5)
    assert merged["scale"].shape == ()
    assert merged["scale"] == 4
    assert merged["empty"].shape == (0, 3)
    assert merged["w"].tolist() == [0, 0]  # both entries tie


@pytest.mark.parametrize("density", [0.003, 0.2, 0.77, 1.0])
@pytest.mark.parametrize("normalize", [True, False])
def test_random_tensors_agree_with_the_method_done_entry_by_entry(density: float, normalize: bool) -> None:
    base = random_values((17, 23), 99)
    values = [base + random_values((17, 23), seed, 0.1) for seed in range(3)]
    weight, densities = [0.3, 1.7, 0.9], [density, density / 2, 1.0]
    own = [{"weight": w, "density": d} for w, d in zip(weight, densities, strict=True)]
    merged = merge_entries("ties", values, base=base, own=own, normalize=normalize, lambda_=0.7)
    expected = reference(base, values, weight, densities, 0.7, normalize)
    np.testing.assert_allclose(merged, expected, rtol=1e-6, atol=1e-6)


def test_bfloat16_deltas_with_many_equal_magnitudes_are_trimmed_exactly() -> None:
    base = bfloat16(random_values((40, 50), 7))
    parents = [bfloat16(numbers(base) + random_values((40, 50), seed, 0.01)) for seed in range(2)]
    merged = merge_tensors("ties", [{"w": p} for p in parents], base={"w": base}, density=0.2, dtype="float32")["w"]
    expected = reference(numbers(base), [numbers(p) for p in parents], [1.0, 1.0], [0.2, 0.2])
    np.testing.assert_allclose(merged, expected, rtol=1e-6, atol=1e-7)
