"""Plans of transport worked by hand, exact and entropic, and what they make of two models."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from apart_models import batches, logits, model

from hubmerge.heterogeneous import merge_models
from hubmerge.heterogeneous.matching import GroupMatches
from hubmerge.heterogeneous.optimal_transport import coupling, transported


def test_three_units_go_to_two_and_the_one_between_goes_to_both() -> None:
    plan = coupling(np.array([[0, 1, 0.5], [1, 0, 0.5]]), 0)
    np.testing.assert_allclose(plan, [[1 / 3, 0, 1 / 6], [0, 1 / 3, 1 / 6]], atol=1e-12)


def test_units_of_one_width_are_assigned_exactly() -> None:
    cost = np.array([[0.1, 0.2, 0.9], [0.15, 0.9, 0.9], [0.9, 0.9, 0.0]])
    assert coupling(cost, 0).tolist() == (np.array([[0, 1, 0], [1, 0, 0], [0, 0, 1]]) / 3).tolist()


def test_two_units_are_spread_as_the_regularisation_says() -> None:
    plan = coupling(np.array([[0, 0.1], [0.1, 0]]), 0.1)
    kept = 1 / (1 + math.exp(-1))  # what stays is e to the power of .1 / .1 times what goes across
    np.testing.assert_allclose(plan, np.array([[kept, 1 - kept], [1 - kept, kept]]) / 2, atol=1e-9)


@pytest.mark.parametrize("regularisation", [10.0, 0.1, 0.003, 0.0])
def test_every_unit_keeps_its_mass(regularisation: float) -> None:
    plan = coupling(np.random.default_rng(0).random((5, 8)), regularisation)
    np.testing.assert_allclose(plan.sum(1), 1 / 5, rtol=2e-4)
    np.testing.assert_allclose(plan.sum(0), 1 / 8, rtol=2e-4)


def test_maps_are_means_in_both_directions_with_signs() -> None:
    worth, signs = np.array([[1, 0, 0.5], [0, 1, 0.5]]), np.array([[1.0, 1, -1], [1, 1, 1]])
    found = transported(GroupMatches(np.array([0, 1]), np.ones(2), np.ones(2), {}, worth, signs), 0.0)
    np.testing.assert_allclose(found.encode, [[2 / 3, 0, -1 / 3], [0, 2 / 3, 1 / 3]], atol=1e-12)
    np.testing.assert_allclose(found.decode, [[1, 0], [0, 1], [-0.5, 0.5]], atol=1e-12)


def test_the_report_says_of_how_many_units_one_is_made() -> None:
    parents, data = [model("resnet basic", seed) for seed in (0, 1)], batches("resnet basic")
    supports = []
    for regularisation in (0.0, 0.05, 100.0):
        done = merge_models(
            parents, data, labels="shared", fit=None, align="optimal_transport", regularisation=regularisation
        )
        told = done.report.groups["res1"]
        assert (told.merged, told.matched, told.support[0]) == (8, (8,), 1)
        supports.append(told.support[1])
    assert supports[0] == 1
    assert 1 < supports[1] < supports[2]
    assert supports[2] == pytest.approx(8, abs=1e-3)  # a mean of all


def test_a_narrower_model_computes_in_a_base_twice_as_wide_what_it_computed() -> None:
    base, donor = model("vit", 0, intermediate_size=48), model("vit", 1)
    done = merge_models(
        [base, donor], batches("vit"), labels="shared", weights=(0.0, 1.0), fit=None, align="optimal_transport",
        regularisation=0,
    )  # fmt: skip
    data = batches("vit")[0]
    torch.testing.assert_close(logits(done.model, data), logits(donor, data), rtol=1e-4, atol=1e-4)
    assert done.report.groups["ff0"].largest_support == (1, 1)
