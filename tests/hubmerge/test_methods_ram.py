"""ram and ramplus_tl: shared changes averaged, a parent's own ones kept."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from zoo import merge_entries, random_values

from hubmerge.methods.ram import unique_factors

BASE = [1, 1, 1, 1]
FIRST = [3, 1, 5, 1.25]  # changes by 2, 0, 4, 0.25
SECOND = [5, 2, 1, 1]  # changes by 4, 1, 0, 0


def reference(base: Any, models: list[Any], epsilon: float, r: float = 0.0, alpha: float = 0.0) -> np.ndarray:
    """Entry by entry in float64; with r = 0 nothing is made larger."""
    deltas = np.array([(model - base).ravel() for model in models])  # float32, as the method sees them
    active = np.abs(deltas) > np.float32(epsilon)
    count = active.sum(axis=0)
    factors = []
    for row in active:
        own, both = int((row & (count == 1)).sum()), int((row & (count > 1)).sum())
        factors.append(1 + r * min(both / own if own else np.inf * both if both else 0.0, alpha))
    merged = np.zeros(deltas.shape[1])
    for i in range(deltas.shape[1]):
        rows = np.flatnonzero(active[:, i])
        values = deltas[rows, i].astype(np.float64)
        if len(rows) == 1:
            merged[i] = values[0] * factors[rows[0]]
        elif len(rows) > 1:
            merged[i] = values.mean()
    return base + merged.reshape(base.shape)


def test_shared_changes_are_averaged_own_ones_kept_and_small_ones_dropped() -> None:
    merged = merge_entries("ram", [FIRST, SECOND], base=BASE, epsilon=0.5)
    assert merged.tolist() == [1 + 3, 1 + 1, 1 + 4, 1]


def test_a_change_of_exactly_epsilon_is_none() -> None:
    assert merge_entries("ram", [[3], [1]], base=[1], epsilon=2).tolist() == [1]


def test_own_changes_grow_with_the_share_of_changes_that_others_made_too() -> None:
    # the first: one shared, two of its own: 1 + 0.5 * 1/2; the second: one shared, one of its own: 1 + 0.5 * min(1, 0.75)
    merged = merge_entries("ramplus_tl", [FIRST, SECOND], base=BASE, r=0.5, alpha=0.75)
    assert merged.tolist() == [1 + 3, 1 + 1 * 1.375, 1 + 4 * 1.25, 1 + 0.25 * 1.25]


def test_the_factor_is_one_without_shared_changes_and_at_most_one_plus_r_alpha() -> None:
    assert unique_factors((5, 2, 0, 0), (0, 8, 3, 0), r=0.5, alpha=0.25) == (1.0, 1.125, 1.125, 1.0)


def test_one_parent_is_kept_where_it_changed_anything() -> None:
    base, model = random_values((40,), 1), random_values((40,), 2)
    merged = merge_entries("ram", [model], base=base)
    assert np.array_equal(merged, base + (model - base))


@pytest.mark.parametrize("count", [2, 4])
@pytest.mark.parametrize("epsilon", [1e-5, 0.5, 1.5])
def test_random_tensors_agree_with_the_reference(count: int, epsilon: float) -> None:
    base = random_values((12, 30), 9)
    models = [random_values((12, 30), seed) for seed in range(count)]
    merged = merge_entries("ram", models, base=base, epsilon=epsilon)
    np.testing.assert_allclose(merged, reference(base, models, epsilon), rtol=1e-5, atol=1e-6)
    merged = merge_entries("ramplus_tl", models, base=base, epsilon=epsilon, r=0.3, alpha=0.7)
    np.testing.assert_allclose(merged, reference(base, models, epsilon, 0.3, 0.7), rtol=1e-5, atol=1e-6)
