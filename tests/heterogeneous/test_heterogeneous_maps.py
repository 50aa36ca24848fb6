"""Merged tensors and features, entry by entry, on examples of three units."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hubmerge.heterogeneous import merged_tensors
from hubmerge.heterogeneous.maps import Maps, Selection, Soft, merge_features, parents_of_units
from hubmerge.heterogeneous.merged_tensors import fill_merged, merge_tensors, strip_entries
from hubmerge.symmetry import Group, Kind, SymmetrySpec
from hubmerge.symmetry.groups import Axis, Factor, Role, TensorSymmetry


def axis(*factors: tuple[str, int], role: Role = Role.WRITES) -> Axis:
    return (tuple(Factor(name, role, size) for name, size in factors),)


def spec_with(tensors: dict[str, tuple[Axis, ...]], **outer: str) -> SymmetrySpec:
    """outer: the group in which another is."""
    factors = [factor for axes in tensors.values() for each in axes for segment in each for factor in segment]
    groups = {
        each.group: Group(each.group, each.group, Kind.PERMUTATION, each.size, outer.get(each.group))
        for each in factors
        if each.group
    }
    return SymmetrySpec("toy", groups, {name: TensorSymmetry(name, name, "", axes) for name, axes in tensors.items()})


def units(*unit: int, sign: tuple[int, ...] = ()) -> Selection:
    return Selection(np.array(unit), np.array(sign or [1] * len(unit), float))


SQUARE = {"w": (axis(("out", 3)), axis(("in", 3), role=Role.READS)), "b": (axis(("out", 3)),)}
A = {"w": torch.tensor([[1.0, 2, 3], [4, 5, 6], [7, 8, 9]]), "b": torch.tensor([1.0, 2, 3])}
B = {"w": torch.tensor([[10.0, 20, 30], [40, 50, 60], [70, 80, 90]]), "b": torch.tensor([10.0, 20, 30])}
# on both sides the first two units of A are one with the units 2 and 0 of B; A's last and B's unit 1 are their own
PARTLY = {group: (units(0, 1, 2, -1), units(2, 0, -1, 1)) for group in ("out", "in")}


def test_the_blocks_of_a_partial_merge_are_those_worked_by_hand() -> None:
    spec = spec_with(SQUARE)
    found = merge_tensors([spec, spec], [A, B], PARTLY, [1, 1])
    # merged rows and columns: the mean of A and of B in A's order; merged rows of separate columns: half; separate rows: whole;
    # a separate row of one parent has nothing in a separate column of the other
    assert found["w"].tolist() == [
        [(1 + 90) / 2, (2 + 70) / 2, 3 / 2, 80 / 2],
        [(4 + 30) / 2, (5 + 10) / 2, 6 / 2, 20 / 2],
        [7, 8, 9, 0],
        [60, 40, 0, 50],
    ]
    assert found["b"].tolist() == [(1 + 30) / 2, (2 + 10) / 2, 3, 20]
    assert found["w"].dtype == torch.float32


def test_shares_count_where_units_are_shared_and_nowhere_else() -> None:
    spec = spec_with(SQUARE)
    found = merge_tensors([spec, spec], [A, B], PARTLY, [3, 1])
    assert found["w"][0].tolist() == [(3 * 1 + 90) / 4, (3 * 2 + 70) / 4, 3 * 3 / 4, 80 / 4]
    assert found["w"][3].tolist() == [60, 40, 0, 50]
    assert found["b"].tolist() == [(3 * 1 + 30) / 4, (3 * 2 + 10) / 4, 3, 20]


def test_three_parents_each_have_a_unit_of_their_own() -> None:
    spec = spec_with({"b": (axis(("out", 2)),)})
    maps = {"out": (units(0, 1, -1, -1), units(1, -1, 0, -1), units(0, -1, -1, 1))}
    tensors = [{"b": torch.tensor(values)} for values in ([1.0, 2], [10.0, 20], [100.0, 200])]
    found = merge_tensors([spec] * 3, tensors, maps, [1, 1, 1])
    torch.testing.assert_close(found["b"], torch.tensor([(1 + 20 + 100) / 3, 2, 10, 200]))


def test_signs_turn_what_is_written_and_what_is_read_and_not_what_follows() -> None:
    tensors = {
        "up": (axis(("f", 2)),), "down": (axis(("f", 2), role=Role.READS),), "gate": (axis(("f", 2), role=Role.FOLLOWS),),
    }  # fmt: skip
    spec = spec_with(tensors)
    maps = {"f": (units(0, 1), units(1, 0, sign=(-1, 1)))}
    own, other = ({name: torch.tensor(values) for name in tensors} for values in ([0.0, 0], [2.0, 4]))
    found = merge_tensors([spec, spec], [own, other], maps, [0, 1])
    assert {name: values.tolist() for name, values in found.items()} == {"up": [-4, 2], "down": [-4, 2], "gate": [4, 2]}


def test_what_no_number_with_a_point_is_stays_the_firsts() -> None:
    spec = spec_with({"count": ()})
    found = merge_tensors([spec, spec], [{"count": torch.tensor(3)}, {"count": torch.tensor(8)}], {}, [1, 1])
    assert found["count"].item() == 3
    assert found["count"].dtype == torch.int64


def test_a_tensor_that_is_merged_in_strips_is_the_same_to_the_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = axis(("token", 7))
    spec = spec_with({"w": (tokens, axis(("in", 3), role=Role.READS)), "t": (axis(("in", 3)), tokens)})
    drawn = torch.Generator().manual_seed(0)
    parents = [
        {"w": torch.randn(7, 3, generator=drawn), "t": torch.randn(3, 7, generator=drawn)} for _ in range(2)
    ]  # fmt: skip
    whole = merge_tensors([spec, spec], parents, PARTLY, [0.3, 0.7])
    monkeypatch.setattr(merged_tensors, "_STRIP", 6)  # two rows of "w", two columns of "t", and one that is left over
    cut = merge_tensors([spec, spec], parents, PARTLY, [0.3, 0.7])
    assert all(torch.equal(cut[name], whole[name]) for name in whole)
    assert whole["w"].shape == (7, 4)
    assert whole["t"].shape == (4, 7)
    assert strip_entries(spec, "w", (7, 3), PARTLY) == 6
    assert strip_entries(spec, "w", (7, 3), {"token": ()}) == 7  # cut along the other axis, three columns


def test_a_merge_of_other_names_or_shapes_than_the_model_has_is_refused() -> None:
    spec = spec_with({"b": (axis(("out", 3)),)})
    with pytest.raises(RuntimeError, match=r"^b is \(3,\) in the config and was merged to \(4,\)$"):
        fill_merged({"b": torch.zeros(3)}, [spec, spec], [{"b": A["b"]}, {"b": B["b"]}], PARTLY, [1, 1])
    with pytest.raises(RuntimeError, match=r"^other tensors than were merged: \['c'\]$"):
        fill_merged({"b": torch.zeros(3), "c": torch.zeros(3)}, [spec], [{"b": A["b"]}], {}, [1])


def test_soft_maps_mix_what_is_written_and_unmix_what_is_read() -> None:
    spec = spec_with({"w": (axis(("out", 2)),), "r": (axis(("out", 2), role=Role.READS),)})
    turn = np.array([[0.6, 0.4], [-0.8, 0.6]])
    back = np.linalg.inv(turn)
    maps: Maps = {"out": (Soft(turn, back),)}
    found = merge_tensors([spec], [{"w": torch.tensor([1.0, 2]), "r": torch.tensor([3.0, 5])}], maps, [1])
    assert found["w"].tolist() == pytest.approx([0.6 + 0.8, (-0.8 + 1.2) / 1.0])
    assert found["r"].tolist() == pytest.approx((np.array([3.0, 5]) @ back).tolist())
    assert float(found["w"].double() @ found["r"].double()) == pytest.approx(13)  # what is read of what is written


def test_a_soft_row_of_nothing_leaves_the_unit_to_the_others() -> None:
    spec = spec_with({"w": (axis(("out", 2)),)})
    half = Soft(np.array([[1.0, 0], [0, 0]]), np.array([[1.0, 0], [0, 0]]))
    found = merge_tensors([spec, spec], [{"w": torch.tensor([1.0, 2])}, {"w": torch.tensor([5.0, 7])}], {
        "out": (units(0, 1), half)
    }, [1, 1])  # fmt: skip
    assert found["w"].tolist() == [(1 + 5) / 2, 2]


def test_inner_features_turn_with_their_unit_of_the_parent_and_units_between_are_passed_over() -> None:
    spec = spec_with({"w": (axis(("kv", 2), ("query", 2), ("value", 2)),)}, query="kv", value="kv")
    swap, stay = np.eye(2)[::-1], np.eye(2)
    values = Soft(np.stack([stay, swap]), np.stack([stay, swap]), "kv")
    queries = Soft(np.stack([swap, stay]), np.stack([swap, stay]), "kv")
    maps: Maps = {"kv": (units(1, 0),), "query": (queries,), "value": (values,)}
    found = merge_tensors([spec], [{"w": torch.arange(8.0)}], maps, [1])
    # unit 0 is [[0, 1], [2, 3]], its queries swap; unit 1 is [[4, 5], [6, 7]], its values swap; then the units swap
    assert found["w"].tolist() == [5, 4, 7, 6, 2, 3, 0, 1]


def test_segments_of_an_axis_are_mapped_each_for_itself() -> None:
    joined: Axis = (*axis(("h", 2)), *axis(("h", 2)), (Factor(None, Role.WRITES, 1),))
    spec = spec_with({"w": (joined,)})
    found = merge_tensors([spec], [{"w": torch.arange(5.0)}], {"h": (units(1, -1, 0),)}, [1])
    assert found["w"].tolist() == [1, 0, 0, 3, 0, 2, 4]


def test_features_of_units_that_both_have_are_means_and_the_others_whole() -> None:
    rows = [torch.tensor([[1.0, 2, 3], [4, 5, 6]]), torch.tensor([[10.0, 20, 30], [40, 50, 60]])]
    reads = axis(("in", 3), role=Role.READS)
    found = merge_features(rows, [reads, reads], PARTLY, [1, 3])
    assert found.tolist() == [[(1 + 90) / 4, (2 + 30) / 4, 3, 20], [(4 + 180) / 4, (5 + 120) / 4, 6, 50]]
    assert parents_of_units([reads, reads], PARTLY).tolist() == [[True, True, True, False], [True, True, False, True]]
