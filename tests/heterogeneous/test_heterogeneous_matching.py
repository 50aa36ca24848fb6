"""Which unit is which: assignments worked by hand, of widths that differ, with signs, and of units inside units."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hubmerge.errors import PlanError
from hubmerge.heterogeneous.activations import Correlation, correlations
from hubmerge.heterogeneous.maps import Selection, Soft
from hubmerge.heterogeneous.matching import GroupMatches, match_units, matches_of_weights
from hubmerge.heterogeneous.slots import group_maps, union_slots
from hubmerge.symmetry import Group, Kind, SymmetrySpec, spec_of
from hubmerge.symmetry.groups import Factor, Role, TensorSymmetry


def spec_of_groups(*groups: Group) -> SymmetrySpec:
    return SymmetrySpec("toy", {group.name: group for group in groups}, {})


def permuted(name: str, size: int, outer: str | None = None) -> Group:
    return Group(name, name, Kind.PERMUTATION, size, outer)


def test_the_sum_of_likenesses_decides_and_not_each_units_own_best() -> None:
    worth = np.array([[0.9, 0.8], [0.85, 0.1]])  # greedily .9 + .1, best .8 + .85
    found = match_units(spec_of_groups(permuted("f", 2)), {"f": Correlation(worth, {})})["f"]
    assert found.partner.tolist() == [1, 0]
    assert found.similarity.tolist() == [0.8, 0.85]
    assert found.sign.tolist() == [1, 1]


def test_a_wider_donor_leaves_units_over_and_a_narrower_one_leaves_the_bases_alone() -> None:
    worth = np.array([[0.1, 0.9, 0.2], [0.8, 0.7, 0.3]])
    wide = match_units(spec_of_groups(permuted("f", 2)), {"f": Correlation(worth, {})})["f"]
    assert wide.partner.tolist() == [1, 0]
    assert wide.matched == 2
    narrow = match_units(spec_of_groups(permuted("f", 3)), {"f": Correlation(worth.T, {})})["f"]
    assert narrow.partner.tolist() == [1, 0, -1]
    assert narrow.similarity.tolist() == [0.8, 0.9, 0]
    assert narrow.matched == 2


def test_pairs_less_alike_than_is_asked_are_not_pairs() -> None:
    worth = np.array([[0.9, 0.0, 0], [0, -0.2, 0], [0, 0, 0.3]])
    spec = spec_of_groups(permuted("f", 3))
    assert match_units(spec, {"f": Correlation(worth - 0.1, {})})["f"].partner.tolist() == [0, -1, 2]
    found = match_units(spec, {"f": Correlation(worth, {})}, min_similarity=0.5)["f"]
    assert found.partner.tolist() == [0, -1, -1]
    assert found.similarity.tolist() == [0.9, 0, 0]
    everything = match_units(spec, {"f": Correlation(worth, {})}, min_similarity=-1.0)["f"]
    assert everything.matched == 3


def test_opposite_units_are_alike_where_signs_may_change_and_only_there() -> None:
    worth = np.array([[0.1, -0.9], [0.8, 0.3]])
    signed = Group("f", "f", Kind.SIGNED, 2)
    found = match_units(spec_of_groups(signed), {"f": Correlation(worth, {})})["f"]
    assert found.partner.tolist() == [1, 0]
    assert found.sign.tolist() == [-1, 1]
    assert found.similarity.tolist() == [0.9, 0.8]
    plain = match_units(spec_of_groups(permuted("f", 2)), {"f": Correlation(worth, {})})["f"]
    assert plain.partner.tolist() == [0, 1]


def test_groups_that_are_left_out_by_name_or_by_row_are_not_matched() -> None:
    groups = (Group("f0", "f{l}", Kind.PERMUTATION, 1), Group("f1", "f{l}", Kind.PERMUTATION, 1), permuted("res", 1))
    found = {name: Correlation(np.ones((1, 1)), {}) for name in ("f0", "f1", "res")}
    assert match_units(spec_of_groups(*groups), found, without=("f{l}",)).keys() == {"res"}
    assert match_units(spec_of_groups(*groups), found, without=("f1", "res")).keys() == {"f0"}


def test_a_unit_is_worth_what_its_inner_features_are_worth_at_their_best() -> None:
    inner = np.zeros((2, 2, 2, 2))  # head, feature, other's head, other's feature
    inner[0, :, 0, :] = [[0.5, 0.1], [0.1, 0.5]]  # .5 in order
    inner[0, :, 1, :] = [[0.0, 0.9], [0.9, 0.0]]  # .9 crosswise
    inner[1, :, 0, :] = [[0.7, 0.2], [0.6, 0.7]]  # .7 in order
    groups = permuted("head", 2), Group("value", "value", Kind.INVERTIBLE, 2, "head")
    found = match_units(spec_of_groups(*groups), {"head": Correlation(np.zeros((2, 2)), {"value": inner})})["head"]
    assert found.partner.tolist() == [1, 0]
    assert found.similarity.tolist() == pytest.approx([0.9, 0.7])
    assert found.inner["value"].tolist() == [[[0, 1], [1, 0]], [[1, 0], [0, 1]]]


def test_rotary_planes_keep_their_places_and_say_how_alike_heads_are() -> None:
    inner = np.zeros((2, 2, 2, 2))
    inner[0, :, 1, :], inner[1, :, 0, :] = np.diag([0.4, 0.6]), np.diag([0.9, 0.7])
    inner[0, :, 0, :] = [[0, 1], [1, 0]]  # of no use: the planes would have to change places
    groups = permuted("kv", 2), Group("rope", "rope", Kind.PLANES, 2, "kv")
    found = match_units(spec_of_groups(*groups), {"kv": Correlation(np.zeros((2, 2)), {"rope": inner})})["kv"]
    assert found.partner.tolist() == [1, 0]
    assert found.similarity.tolist() == pytest.approx([0.5, 0.8])
    assert found.inner == {}


def test_query_heads_are_matched_under_the_match_of_the_values_that_they_share() -> None:
    values = np.zeros((1, 2, 1, 2))
    values[0, :, 0, :] = [[0, 1], [1, 0]]  # the base's first value is the other's second
    between = np.zeros((1, 2, 2, 1, 2, 2))  # kv, query, value, and the other's
    between[0, 0, :, 0, 1, :] = [
        [0.0, 0.6],
        [0.8, 0.0],
    ]  # the base's query 0 sees, with values crossed, the other's query 1
    between[0, 1, :, 0, 0, :] = [[0.0, 0.4], [0.2, 0.0]]
    between[0, 0, :, 0, 0, :] = [[0.9, 0.0], [0.0, 0.9]]  # alike only in the order in which the values are not
    groups = permuted("kv", 1), permuted("query", 2, "kv"), Group("value", "value", Kind.INVERTIBLE, 2, "kv")
    seen = Correlation(np.zeros((1, 1)), {"value": values}, {("query", "value"): between})
    found = match_units(spec_of_groups(*groups), {"kv": seen})["kv"]
    assert found.inner["query"].tolist() == [[[0, 1], [1, 0]]]
    assert found.inner["value"].tolist() == [[[0, 1], [1, 0]]]
    assert found.similarity.tolist() == pytest.approx([(1.0 + (0.7 + 0.3) / 2) / 2])


def test_units_that_stand_best_where_they_are_are_pairs_too() -> None:
    own, other = {"w": torch.tensor([[2.0, 0.0], [0.0, 1.0]])}, {"w": torch.tensor([[4.0, 3.0], [0.0, 1.0]])}
    rows, columns = ((Factor("f", Role.WRITES, 2),),), ((Factor(None, Role.WRITES, 2),),)
    spec = SymmetrySpec("toy", {"f": permuted("f", 2)}, {"w": TensorSymmetry("w", "w", "", (rows, columns))})
    found = matches_of_weights(spec, own, other)["f"]  # cosines 8 / (2 * 5) and 1
    assert found.partner.tolist() == [0, 1]
    assert found.sign.tolist() == [1, 1]
    assert found.similarity.tolist() == pytest.approx([0.9, 0.9])


def test_weights_are_not_matched_across_widths() -> None:
    own, other = {"w": torch.zeros(2, 3)}, {"w": torch.zeros(4, 3)}
    with pytest.raises(PlanError) as caught:
        matches_of_weights(spec_of_groups(permuted("f", 2)), own, other)
    assert str(caught.value) == (
        "tensor 'w' is [2, 3] in the base and [4, 3] in another model · align · "
        "models of different widths are matched by activations"
    )


def matched(partner: list[int], similarity: list[float], sign: list[int] | None = None) -> GroupMatches:
    return GroupMatches(np.array(partner), np.array(similarity), np.array(sign or [1] * len(partner), float))


def test_units_without_a_partner_join_first_and_then_the_pairs_least_alike_part() -> None:
    match = matched([2, 0, 1], [0.9, 0.2, 0.5], [1, -1, 1])
    slots, signs = union_slots(3, [4], [match], 3)
    assert slots.tolist() == [[0, 2], [1, 0], [2, 1]]  # no room: the other's unit 3 is dropped
    slots, signs = union_slots(3, [4], [match], 4)
    assert slots.tolist() == [[0, 2], [1, 0], [2, 1], [-1, 3]]
    slots, signs = union_slots(3, [4], [match], 6)
    assert slots.tolist() == [[0, 2], [1, -1], [2, -1], [-1, 3], [-1, 0], [-1, 1]]
    assert signs[:, 1].tolist() == [1, -1, 1, 1, -1, 1]


def test_of_three_parents_the_least_alike_of_all_parts_first() -> None:
    first, second = matched([0, 1], [0.3, 0.9]), matched([1, 0], [0.4, 0.1])
    slots, _ = union_slots(2, [2, 2], [first, second], 4)
    assert slots.tolist() == [[0, -1, 1], [1, 1, -1], [-1, -1, 0], [-1, 0, -1]]


def test_a_group_that_only_becomes_wider_keeps_its_last_units_in_their_order() -> None:
    spec = spec_of_groups(permuted("f", 2), permuted("g", 2))
    maps = group_maps([spec, spec], [{}], {"f": 3, "g": 2})
    assert maps.keys() == {"f"}
    assert [part.unit.tolist() for part in maps["f"] if isinstance(part, Selection)] == [[0, 1, -1], [-1, 1, 0]]


def test_inner_maps_are_counted_by_the_parents_own_units() -> None:
    spec = spec_of_groups(permuted("head", 2), Group("value", "value", Kind.INVERTIBLE, 2, "head"))
    swap, stay = np.eye(2)[::-1], np.eye(2)
    match = GroupMatches(np.array([1, 0]), np.ones(2), np.ones(2), {"value": np.stack([swap, stay])})
    own, other = group_maps([spec, spec], [{"head": match}], {})["value"]
    assert isinstance(own, Soft)
    assert isinstance(other, Soft)
    assert own.encode.tolist() == [stay.tolist(), stay.tolist()]
    assert other.encode.tolist() == [
        stay.tolist(),
        swap.tolist(),
    ]  # the base's unit 0 is the other's 1, whose values swap
    assert other.outer == "head"


def test_correlations_are_those_of_the_units_on_all_data() -> None:
    from apart_models import batches, model

    models = [model("bert classifier", seed) for seed in (0, 1)]
    data = batches("bert classifier", count=3, size=5)
    found = correlations(models, [spec_of(each) for each in models], data)[0]["pool"].plain
    seen: list[list[torch.Tensor]] = [[], []]
    for own, kept in zip(models, seen, strict=True):
        handle = own.classifier.register_forward_pre_hook(lambda _module, inputs, kept=kept: kept.append(inputs[0]))
        with torch.no_grad():
            for batch in data:
                own(**batch)
        handle.remove()
    both = np.corrcoef(np.concatenate([torch.cat(kept).numpy().T for kept in seen]))
    np.testing.assert_allclose(found, both[:16, 16:], atol=1e-5)
