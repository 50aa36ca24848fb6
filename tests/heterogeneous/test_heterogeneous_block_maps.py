"""Which layer goes with which: CKA and the map that keeps the order, by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hubmerge.heterogeneous.block_maps import CKA, monotone_map

NO = -np.inf


def cka(ours: list[torch.Tensor], theirs: list[torch.Tensor], cut: int = 2) -> np.ndarray:
    found = CKA()
    for part in (slice(None, cut), slice(cut, None)):
        found.add([each[part] for each in ours], [each[part] for each in theirs])
    return found.values()


def test_cka_is_the_square_of_the_correlation_where_each_layer_has_one_unit() -> None:
    x, y = torch.tensor([[0.0], [1], [2], [3]]), torch.tensor([[1.0], [1], [3], [3]])
    # centred: x = -1.5 -.5 .5 1.5, y = -1 -1 1 1; products 4, squares 5 and 4: r^2 = 16 / 20
    assert cka([x], [y]) == pytest.approx(np.array([[0.8]]))


def test_cka_is_1_for_a_rotation_a_scale_and_a_shift_and_0_for_what_does_not_vary() -> None:
    x = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
    turned = 5 * x @ torch.tensor([[0.6, -0.8, 0], [0.8, 0.6, 0], [0, 0, 1]]) + 7
    found = cka([x], [turned, torch.ones(6, 2)])
    assert found[0, 0] == pytest.approx(1)
    assert found[0, 1] == 0


def test_cka_agrees_with_the_kernels_in_full() -> None:
    random = torch.Generator().manual_seed(1)
    x, y = torch.randn(8, 3, generator=random), torch.randn(8, 5, generator=random)
    centring = np.eye(8) - 1 / 8
    k, m = (centring @ (each @ each.T).double().numpy() @ centring for each in (x, y))
    wanted = (k * m).sum() / np.sqrt((k * k).sum() * (m * m).sum())
    assert cka([x], [y]) == pytest.approx(np.array([[wanted]]))


def test_layers_of_equally_many_go_one_with_one() -> None:
    assert monotone_map(np.array([[0.9, 0.8], [0.8, 0.9]])) == (0, 1)


def test_the_order_is_kept_even_where_crossing_would_be_worth_more() -> None:
    # 0 -> 0 and 1 -> 1 are worth .2 together; 0 -> 1 alone .9, and 1 -> 0 cannot go with it
    assert monotone_map(np.array([[0.1, 0.9], [0.9, 0.1]])) == (1, -1)
    assert monotone_map(np.array([[0.5, 0.9], [0.9, 0.5]])) == (0, 1)


def test_a_deeper_donor_has_layers_left_over_and_a_shallower_one_too_few() -> None:
    worth = np.array([[0.9, 0.3, 0.2], [0.2, 0.4, 0.8]])
    assert monotone_map(worth) == (0, 2)
    assert monotone_map(worth.T) == (0, -1, 1)


def test_a_pair_below_the_least_is_none_and_an_impossible_one_neither() -> None:
    worth = np.array([[0.9, 0.1], [0.1, 0.2]])
    assert monotone_map(worth, 0.25) == (0, -1)
    assert monotone_map(np.array([[NO, 0.3], [0.9, NO]])) == (-1, 0)
    assert monotone_map(np.array([[NO]])) == (-1,)


def test_the_map_is_the_best_of_all_that_keep_the_order() -> None:
    from itertools import combinations

    random = np.random.default_rng(3)
    for _ in range(20):
        worth = random.uniform(-0.2, 1, (3, 4))
        every = [
            sum(worth[i, j] for i, j in zip(rows, columns))
            for size in range(4)
            for rows in combinations(range(3), size)
            for columns in combinations(range(4), size)
        ]
        found = monotone_map(worth)
        assert sum(worth[i, j] for i, j in enumerate(found) if j >= 0) == pytest.approx(max(every))
