"""Units of all models contracted, the most alike first: by hand, with budgets and signs, and nothing contracted at all."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from apart_models import batches, logits, model

from hubmerge.heterogeneous import merge_models
from hubmerge.heterogeneous.zipping import contracted, zipped


def alike(size: int, **pairs: float) -> np.ndarray:
    """Correlations of units that vary; pairs: ``u02=0.9`` for the first and the third."""
    found = np.eye(size)
    for name, value in pairs.items():
        i, j = (int(digit) for digit in name[1:])
        found[i, j] = found[j, i] = value
    return found


def test_pairs_across_two_models_of_three_units_are_made_the_most_alike_first() -> None:
    # 0 to 2 are the base's, 3 to 5 the other's; 1 and 2 are alike too, but so few contractions leave no budget within a model
    table = alike(6, u04=0.9, u13=0.8, u03=0.85, u12=0.95, u25=0.1)
    assert contracted(table, (3, 3), 3, signed=False)[0].tolist() == [0, 1, 2, 1, 0, 2]
    base, other = zipped(table, (3, 3), 3, signed=False)
    assert base.encode.tolist() == (np.eye(3) / 2).tolist()
    assert other.encode.tolist() == [[0, 0.5, 0], [0.5, 0, 0], [0, 0, 0.5]]
    assert other.decode.tolist() == [[0, 1, 0], [1, 0, 0], [0, 0, 1]]


def test_a_model_with_too_many_units_contracts_its_own() -> None:
    table = alike(4, u12=0.9, u03=0.5, u01=0.2, u13=0.8)  # one unit of the base, three of the other
    base, other = zipped(table, (1, 3), 2, signed=False)
    assert base.encode.tolist() == [[0.5], [0]]
    assert other.encode.tolist() == [[0, 0, 0.5], [0.5, 0.5, 0]]  # its last joins the base's, its first two are one
    assert other.decode.tolist() == [[0, 1], [0, 1], [1, 0]]


def test_of_a_models_contractions_an_eighth_may_be_within_it() -> None:
    for size, within in ((4, 0), (16, 1)):  # as many contractions as units, a half for each model
        table = np.eye(2 * size)
        table[:size, size:] = table[size:, :size] = 0.5 * np.eye(size)
        table[0, 1] = table[1, 0] = table[2, 3] = table[3, 2] = 0.99
        first, _ = contracted(table, (size, size), size, signed=False)
        assert len(set(first[:size].tolist())) == size - within


def test_likeness_counts_less_the_second_time() -> None:
    # of the base's three units the first is one with 3, by .9; then the second is alike to that one by .8 * .3, to the third by .25
    table = alike(4, u03=0.9, u01=0.8, u13=0.8, u12=0.25)
    assert contracted(table, (3, 1), 2, signed=False)[0].tolist() == [0, 1, 1, 0]


def test_a_third_models_unit_joins_a_pair_as_if_it_had_not_been_contracted() -> None:
    table = alike(4, u02=0.9, u03=0.8, u23=0.7, u13=0.25)
    assert contracted(table, (2, 1, 1), 2, signed=False)[0].tolist() == [0, 1, 0, 0]


def test_opposite_units_are_one_where_signs_may_change() -> None:
    table = alike(4, u02=-0.9, u13=0.8, u03=0.1, u12=0.1)
    first, sign = contracted(table, (2, 2), 2, signed=True)
    assert (first.tolist(), sign.tolist()) == ([0, 1, 0, 1], [1, 1, -1, 1])
    first, sign = contracted(alike(4, u02=-0.9, u12=0.2, u03=0.1), (2, 2), 2, signed=False)
    assert (first.tolist(), sign.tolist()) == ([0, 1, 1, 0], [1, 1, 1, 1])


def test_units_that_do_not_vary_are_one_with_each_other() -> None:
    table = alike(4, u02=0.9, u01=0.0)
    table[1, 1] = table[3, 3] = 0.0
    table[0, 3] = table[3, 0] = 0.4
    assert contracted(table, (2, 2), 2, signed=False)[0].tolist() == [0, 1, 0, 1]


def test_budgets_that_leave_nothing_are_lifted() -> None:
    # of three models of two units each pair has one unit in common with both others': three units of two models are left
    table = alike(6, u02=0.9, u34=0.8, u15=0.7)
    first, _ = contracted(table, (2, 2, 2), 2, signed=False)
    assert len(set(first.tolist())) == 2


PLAIN: dict[str, Any] = {"fit": None, "renormalise": False, "align": "zip"}


def test_with_all_units_apart_the_merge_computes_what_both_models_do() -> None:
    parents, data = [model("resnet basic", seed, num_labels=3) for seed in (0, 1)], batches("resnet basic")
    done = merge_models(parents, data, labels="disjoint", widths="union", ratio=1.0, **PLAIN)
    wanted = torch.cat([logits(parent, data[0]) for parent in parents], 1)
    torch.testing.assert_close(logits(done.model, data[0]), wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("width", [6, 12])
def test_models_of_other_widths_are_contracted_to_the_bases(width: int) -> None:
    parents = [model("resnet basic", 0), model("resnet basic", 1, embedding_size=width, hidden_sizes=[width, 16])]
    done = merge_models(parents, batches("resnet basic"), labels="shared", **PLAIN)
    told = done.report.groups["res1"]
    assert (told.sizes, told.merged) == ((8, width), 8)
    assert done.model.config.hidden_sizes == [8, 12]
    assert torch.isfinite(logits(done.model, batches("resnet basic")[0])).all()
