"""A model of other widths in the base's units: which units are left out, joined, or the base's own, with numbers worked by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hubmerge.alignment.carried import carried_by_weights, carried_units
from hubmerge.alignment.costs import memory_of_folds
from hubmerge.alignment.filling import CarriedNorms
from hubmerge.heterogeneous.matching import GroupMatches
from hubmerge.symmetry.groups import Factor, Group, Kind, Role, SymmetrySpec, TensorSymmetry


def layer(units: int) -> SymmetrySpec:
    """Hidden units h, written by `up` (units, 2), read by `down` (1, units), and a bias that no group touches."""
    writes, reads = Factor("h", Role.WRITES, units), Factor("h", Role.READS, units)
    two, one = Factor(None, Role.WRITES, 2), Factor(None, Role.WRITES, 1)
    axes = {"up": (((writes,),), ((two,),)), "down": (((one,),), ((reads,),)), "bias": (((one,),),)}
    return SymmetrySpec(
        "toy",
        {"h": Group("h", "h", Kind.PERMUTATION, units)},
        {name: TensorSymmetry(name, name, "", each) for name, each in axes.items()},
    )


BASE = {
    "up": torch.tensor([[1.0, 2], [3, 4]]),
    "down": torch.tensor([[5.0, 6]]),
    "bias": torch.tensor([7.0]),
}
WIDE = {  # its units 2 and 0 are the base's 0 and 1
    "up": torch.tensor([[3.0, 4], [0, 1], [1, 2]]),
    "down": torch.tensor([[6.0, 2, 5]]),
    "bias": torch.tensor([8.0]),
}


def listed(tensors: dict[str, torch.Tensor]) -> dict[str, list[object]]:
    return {name: values.tolist() for name, values in tensors.items()}


def test_a_unit_too_many_is_left_out_and_the_others_stand_as_the_base_s_do() -> None:
    carried = carried_by_weights((layer(2), layer(3)), BASE, WIDE)
    assert listed(carried.tensors(WIDE, BASE)) == {"up": [[1, 2], [3, 4]], "down": [[5, 6]], "bias": [8]}
    found = carried.groups["h"]
    assert (found.size, found.units, found.moved, found.apart, found.left_out, found.similarity) == (2, 3, 2, 0, 1, 1)


def test_a_unit_too_few_is_the_base_s_own() -> None:
    """The base's unit 1 is not there: its row of `up` and its column of `down` are the base's, the bias stays the model's."""
    narrow = {"up": torch.tensor([[10.0, 20]]), "down": torch.tensor([[50.0]]), "bias": torch.tensor([8.0])}
    base = {**BASE, "up": torch.tensor([[3.0, 4], [1, 2]]), "down": torch.tensor([[6.0, 50]])}
    carried = carried_by_weights((layer(2), layer(1)), base, narrow)
    assert listed(carried.tensors(narrow, base)) == {"up": [[3, 4], [10, 20]], "down": [[6, 50]], "bias": [8]}
    found = carried.groups["h"]
    assert (found.units, found.moved, found.apart, found.left_out) == (1, 1, 1, 0)
    assert carried.apart["h"].tolist() == [True, False]


def test_the_cosine_before_is_that_of_the_units_that_stand_in_one_place() -> None:
    """Unit 0 of both: (1, 2; 5) with (3, 4; 6) is 41 / sqrt(30 * 61); unit 1: (3, 4; 6) with (0, 1; 2) is 16 / sqrt(61 * 5)."""
    found = carried_by_weights((layer(2), layer(3)), BASE, WIDE).groups["h"]
    assert found.before == pytest.approx((41 / (30 * 61) ** 0.5 + 16 / (61 * 5) ** 0.5) / 2, abs=1e-6)


def test_the_share_carried_is_told_of_every_tensor_of_which_not_all_was() -> None:
    """Of `up` 1 + 4 + 9 + 16 of 31 squares, of `down` 25 + 36 of 65; of the narrow one's nothing is lost, but what is the base's is not its."""
    carried, norms = carried_by_weights((layer(2), layer(3)), BASE, WIDE), CarriedNorms()
    for name, values in WIDE.items():
        norms.add(name, values, carried.moved(name, values, BASE), carried.entries_apart(name))
    assert norms.tensors == {"up": round((30 / 31) ** 0.5, 6), "down": round((61 / 65) ** 0.5, 6)}
    assert norms.share == round(((30 + 61 + 64) / (31 + 65 + 64)) ** 0.5, 6)
    apart = carried_units((layer(2), layer(2)), {"h": GroupMatches(np.array([0, -1]), np.array([1.0, 0]), np.ones(2))})
    norms = CarriedNorms()
    other = {"up": torch.tensor([[3.0, 0], [4, 0]])}
    norms.add("up", other["up"], apart.moved("up", other["up"], BASE), apart.entries_apart("up"))
    assert (norms.tensors, norms.share) == ({"up": 0.6}, 0.6)


def test_folded_a_unit_too_many_joins_the_most_similar_one() -> None:
    """The wide unit 1 is most like the base's 1: its row is the mean of both, and its column is the sum of theirs."""
    match = GroupMatches(
        np.array([2, 0]),
        np.array([0.9, 0.8]),
        np.ones(2),
        worth=np.array([[0.1, 0.2, 0.9], [0.8, 0.5, 0.1]]),
        signs=np.ones((2, 3)),
    )
    carried = carried_units((layer(2), layer(3)), {"h": match}, widths="fold")
    assert listed(carried.tensors(WIDE, BASE)) == {"up": [[1, 2], [1.5, 2.5]], "down": [[5, 8]], "bias": [8]}
    assert (carried.groups["h"].left_out, carried.groups["h"].folded) == (0, 1)


def test_folded_a_unit_too_few_is_a_copy_and_what_read_it_reads_each_by_half() -> None:
    narrow = {"up": torch.tensor([[10.0, 20]]), "down": torch.tensor([[50.0]]), "bias": torch.tensor([8.0])}
    match = GroupMatches(
        np.array([-1, 0]), np.array([0.0, 0.9]), np.ones(2), worth=np.array([[0.3], [0.9]]), signs=np.ones((2, 1))
    )
    carried = carried_units((layer(2), layer(1)), {"h": match}, widths="fold")
    assert listed(carried.tensors(narrow, BASE)) == {"up": [[10, 20], [10, 20]], "down": [[25, 25]], "bias": [8]}
    assert (carried.groups["h"].apart, carried.groups["h"].folded) == (0, 1)
    least = carried_units((layer(2), layer(1)), {"h": match}, widths="fold", min_similarity=0.5)
    assert least.tensors(narrow, BASE)["up"].tolist() == [[1, 2], [10, 20]]


def test_by_weights_a_unit_too_many_joins_the_one_that_it_is_connected_most_like() -> None:
    """Unit 1, (0, 1; 2), has with the base's (1, 2; 5) a cosine of 12 / sqrt(5 * 30) = .98, with (3, 4; 6) of 16 / sqrt(5 * 61) = .92."""
    carried = carried_by_weights((layer(2), layer(3)), BASE, WIDE, widths="fold")
    assert listed(carried.tensors(WIDE, BASE)) == {"up": [[0.5, 1.5], [3, 4]], "down": [[7, 6]], "bias": [8]}
    assert (carried.groups["h"].left_out, carried.groups["h"].folded) == (0, 1)


def test_by_weights_a_layer_comes_to_the_width_that_copies_of_its_units_gave_it() -> None:
    """The base has a copy of the narrow one's only unit, each read by half: the same function, and the carried model is the base."""
    narrow = {"up": torch.tensor([[3.0, 4]]), "down": torch.tensor([[10.0]]), "bias": torch.tensor([7.0])}
    base = {"up": torch.tensor([[3.0, 4], [3, 4]]), "down": torch.tensor([[5.0, 5]]), "bias": torch.tensor([7.0])}
    carried = carried_by_weights((layer(2), layer(1)), base, narrow, widths="fold")
    assert listed(carried.tensors(narrow, base)) == listed(base)
    assert (carried.groups["h"].apart, carried.groups["h"].folded) == (0, 1)


def test_by_weights_units_that_have_nothing_in_common_are_not_joined_and_none_joins_one_that_does_the_opposite() -> (
    None
):
    for row, column in (([0.0, 0.0], 0.0), ([-1.0, -2.0], -1.0)):
        other = {
            "up": torch.tensor([[3.0, 4], row, [1, 2]]),
            "down": torch.tensor([[6.0, column, 5]]),
            "bias": BASE["bias"],
        }
        carried = carried_by_weights((layer(2), layer(3)), BASE, other, widths="fold")
        assert listed(carried.tensors(other, BASE)) == listed(BASE)
        assert (carried.groups["h"].left_out, carried.groups["h"].folded) == (1, 0)


def test_a_fold_keeps_four_tables_of_the_pairs_of_every_group_that_is_matched() -> None:
    assert memory_of_folds((layer(2), layer(3)), ["h"]) == 4 * 8 * 2 * 3
    assert memory_of_folds((layer(2), layer(3)), []) == 0


def heads(queries: int) -> SymmetrySpec:
    """Two key-value heads with as many query heads each, of one feature: `q` (heads, 1), `k` (key-value heads, 1)."""
    one = Factor(None, Role.WRITES, 1)
    kv, query = Factor("kv", Role.WRITES, 2), Factor("query", Role.WRITES, queries)
    axes = {"q": (((kv, query),), ((one,),)), "k": (((kv,),), ((one,),))}
    groups = {
        "kv": Group("kv", "kv", Kind.PERMUTATION, 2),
        "query": Group("query", "query", Kind.PERMUTATION, queries, outer="kv"),
    }
    return SymmetrySpec("toy", groups, {name: TensorSymmetry(name, name, "", each) for name, each in axes.items()})


def test_query_heads_too_few_in_a_key_value_head_are_the_base_s_own() -> None:
    """The model's key-value heads stand the other way round; its one query head is the base's second in one and the first in the other."""
    base = {"q": torch.tensor([[1.0], [9], [8], [2]]), "k": torch.tensor([[5.0], [-5]])}
    model = {"q": torch.tensor([[8.0], [9]]), "k": torch.tensor([[-5.0], [5]])}
    carried = carried_by_weights((heads(2), heads(1)), base, model)
    assert listed(carried.tensors(model, base)) == listed(base)
    assert carried.apart["query"].tolist() == [[True, False], [False, True]]
    inside = carried.groups["kv"].inside["query"]
    assert (inside.size, inside.units, inside.apart, inside.left_out) == (2, 1, 2, 0)


def test_query_heads_too_many_are_left_out() -> None:
    base = {"q": torch.tensor([[8.0], [9]]), "k": torch.tensor([[-5.0], [5]])}
    model = {"q": torch.tensor([[1.0], [9], [8], [2]]), "k": torch.tensor([[5.0], [-5]])}
    carried = carried_by_weights((heads(1), heads(2)), base, model)
    assert listed(carried.tensors(model, base)) == listed(base)
    assert not carried.apart
    assert carried.groups["kv"].inside["query"].left_out == 2
