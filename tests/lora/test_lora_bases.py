"""Adapters merged in the bases that they share, against dense forms and numbers worked by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from lora_models import dense, factors, furthest, knots_ties

import hubmerge
from hubmerge.lora import merge_adapters


def test_two_orthogonal_changes_of_rank_1_by_hand() -> None:
    """Changes 3 e1 f1' and 2 e2 f2': their common output basis is e1, e2, and TIES keeps what only one of them has."""
    first = {"m": (np.array([[3.0, 0.0]]), np.array([[1.0], [0.0]]))}
    second = {"m": (np.array([[0.0, 2.0]]), np.array([[0.0], [1.0]]))}
    merged = merge_adapters("ties", [first, second], basis="knots", parameters={"density": 1.0})
    np.testing.assert_allclose(dense(merged)["m"], [[3.0, 0.0], [0.0, 2.0]], atol=1e-6)


@pytest.mark.parametrize("share", [0.2, 0.5, 1.0])
def test_ties_in_knots_is_that_of_the_dense_changes(share: float) -> None:
    adapters = [factors(seed, rank) for seed, rank in ((0, 2), (1, 3), (2, 2))]
    parameters = {"density": share, "trim_scope": "model", "elect": "plain", "divide": "count"}
    merged = merge_adapters("ties", adapters, basis="knots", parameters=parameters)
    assert furthest(dense(merged), knots_ties([dense(adapter) for adapter in adapters], share)) < 1e-5


@pytest.mark.parametrize("basis", ["knots", "core"])
def test_sums_are_the_same_in_every_basis(basis: Any) -> None:
    adapters = [factors(0, 2), factors(1, 3)]
    parameters = {"weight": [0.5, -2.0], "lambda": 0.7}
    merged = merge_adapters("task_arithmetic", adapters, basis=basis, parameters=parameters)
    first, second = (dense(adapter) for adapter in adapters)
    assert furthest(dense(merged), {name: 0.7 * (0.5 * first[name] - 2.0 * second[name]) for name in first}) < 1e-6
    assert {name: a.shape[0] for name, (a, _) in merged.items()} == {"up": 5, "down": 5, "q": 5}


def test_core_space_merges_what_the_singular_bases_of_the_factors_make_of_the_changes() -> None:
    adapters = [factors(0, 2), factors(1, 2)]
    parameters = {"density": 0.5}
    merged = dense(merge_adapters("ties", adapters, basis="core", parameters=parameters))
    for name in merged:
        left = np.linalg.svd(np.concatenate([adapter[name][1] for adapter in adapters], 1), full_matrices=False)[0]
        right = np.linalg.svd(np.concatenate([adapter[name][0] for adapter in adapters], 0), full_matrices=False)[2]
        cores = [{name: (left.T @ b @ a @ right.T).astype(np.float32)} for a, b in (each[name] for each in adapters)]
        zero = {name: np.zeros_like(cores[0][name])}
        own = hubmerge.merge_state_dicts("ties", cores, base=zero, parameters=parameters)[name]
        np.testing.assert_allclose(merged[name], left @ own @ right, atol=1e-5)


def test_the_order_of_adapters_does_not_matter_to_ties() -> None:
    adapters = [factors(seed, 2) for seed in range(3)]
    both = [
        dense(merge_adapters("ties", order, basis="knots", parameters={"density": 0.4}))
        for order in (adapters, adapters[::-1])
    ]
    assert furthest(*both) < 1e-5


def test_a_smaller_rank_is_the_nearest_and_says_how_near_it_is() -> None:
    adapters = [factors(0, 2), factors(1, 2)]
    whole = dense(merge_adapters("task_arithmetic", adapters))
    cut = merge_adapters("task_arithmetic", adapters, rank=2)
    for name, change in whole.items():
        u, values, v = np.linalg.svd(change)
        np.testing.assert_allclose(dense(cut)[name], (u[:, :2] * values[:2]) @ v[:2], atol=1e-5)
        assert cut.energy[name] == pytest.approx((values[:2] ** 2).sum() / (values**2).sum())
        assert cut[name][0].shape[0] == 2


def test_both_factors_of_a_merge_are_of_one_size() -> None:
    a, b = merge_adapters("task_arithmetic", [factors(0, 2), factors(1, 2)])["up"]
    np.testing.assert_allclose(np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=0), rtol=1e-5)


def test_modules_that_one_adapter_leaves_alone() -> None:
    adapters = [factors(0, 2), factors(1, 2, ("up", "q"))]
    zero = dense(merge_adapters("task_arithmetic", adapters))
    assert furthest({"down": zero["down"]}, {"down": dense(adapters[0])["down"]}) < 1e-6
    assert set(merge_adapters("ties", adapters, basis="knots", missing="intersect")) == {"up", "q"}
    with pytest.raises(hubmerge.PlanError) as refused:
        merge_adapters("task_arithmetic", adapters, missing="error")
    assert str(refused.value) == (
        "adapters[1] does not change 'down', which another adapter does · missing · "
        "missing: zero takes that for no change, missing: intersect leaves the module out"
    )


def test_changes_that_are_small_as_a_whole_are_not_lost_in_knots() -> None:
    # singular values of 3e-6 and 1e-6, both below the 1e-5 of the authors' code; of 1 and 1e-6 the second goes, as there
    eye = np.eye(2)
    small = merge_adapters("task_arithmetic", [{"m": (eye, np.diag([3e-6, 1e-6]))}], basis="knots")
    np.testing.assert_allclose(dense(small)["m"], np.diag([3e-6, 1e-6]), atol=1e-12)
    weak = merge_adapters("task_arithmetic", [{"m": (eye, np.diag([1.0, 1e-6]))}], basis="knots")
    np.testing.assert_allclose(dense(weak)["m"], np.diag([1.0, 0.0]), atol=1e-12)


def test_torch_in_is_torch_out() -> None:
    adapters = [{name: tuple(map(torch.from_numpy, pair)) for name, pair in factors(i, 2).items()} for i in range(2)]
    merged = merge_adapters("dare_ties", adapters, basis="knots", parameters={"density": 0.5}, seed=3)
    assert all(
        isinstance(each, torch.Tensor) and each.dtype == torch.float32 for pair in merged.values() for each in pair
    )
    again = merge_adapters("dare_ties", adapters, basis="knots", parameters={"density": 0.5}, seed=3)
    assert all(torch.equal(merged[name][0], again[name][0]) for name in merged)


def test_the_word_of_a_recipe_for_no_basis_is_understood() -> None:
    pair = [factors(0, 2), factors(1, 2)]
    plain, word = (merge_adapters("cat", pair, basis=basis) for basis in (None, "none"))
    assert all(np.array_equal(plain[module][0], word[module][0]) for module in plain)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"adapters": factors(0, 2)}, "adapters must be a list · adapters · adapters=[first, second]"),
        ({"adapters": []}, "no adapters are given · adapters · adapters=[first, second]"),
        ({"name": "slerp", "basis": "core"}, "slerp starts from one of its models, and adapters are changes of one base · name · "),
        ({"name": "pleas", "basis": "knots"}, "pleas puts whole models together, and merges no adapters · name · take a method on deltas"),
        ({"name": "mal"}, "mal puts whole models together, and merges no adapters · name · take a method on deltas"),
        ({"name": "della"}, 'della merges adapters in a basis that they share, and none is named · basis · write basis="knots"'),
        ({"name": "sens_merging"}, "sens_merging needs calibration, and none is given · calibration · calibration=[batches, "),
        ({"name": "cat", "calibration": []}, "cat has no use for calibration= · calibration · leave it out"),
        ({"name": "svd", "parameters": {"lambda": 2}}, "unknown parameter 'lambda' · parameters.lambda · known: weight, density, "),
        ({"name": "tys"}, "there is no method 'tys' · name · the nearest name is ties"),
        ({"basis": "dense"}, "there is no basis 'dense' · basis · one of: knots, core, none"),
        ({"missing": "skip"}, "there is no choice 'skip' · missing · one of: zero, intersect, error"),
        ({"rank": "4"}, "rank must be 1 or more, got '4' · rank · leave it out to keep all"),
        ({"rank": 0}, "rank must be 1 or more, got 0 · rank · leave it out to keep all"),
        ({"adapters": [{"m": (np.ones((2, 3)), np.ones((3, 3)))}]}, "A [2, 3] and B [3, 3] of 'm' are no factors of one change"),
        ({"adapters": [{"m": (np.ones((1, 3)), np.full((3, 1), np.nan))}]}, "the factors of 'm' have numbers that are not finite"),
        ({"adapters": [{"m": np.ones((4, 3))}]}, "'m' has no pair (A, B) · adapters[0] · give (A, B) for every module"),
        (
            {"adapters": [factors(0, 2), {"q": (np.ones((1, 9)), np.ones((8, 1)))}]},
            "'q' has another size in each (adapters[0] 8 x 8, adapters[1] 8 x 9) · adapters",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_merged_is_refused(arguments: dict[str, Any], text: str) -> None:
    given = {"name": "ties", "adapters": [factors(0, 2), factors(1, 2)], "basis": "knots", **arguments}
    if "name" in arguments and "basis" not in arguments:
        given["basis"] = None
    with pytest.raises(hubmerge.errors.HubmergeError) as refused:
        merge_adapters(**given)
    assert str(refused.value).startswith(text)
