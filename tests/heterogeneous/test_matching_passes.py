"""Units matched in several passes over the data: bounded sums, the same numbers."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
from apart_models import batches, model

from hubmerge.heterogeneous.activations import correlations, correlations_by_group
from hubmerge.heterogeneous.batches import Batch
from hubmerge.heterogeneous.memory import memory_of_matching
from hubmerge.heterogeneous.passes import bytes_of_sums, largest_table, passes
from hubmerge.symmetry import SymmetrySpec
from hubmerge.symmetry.groups import Factor, Group, Kind, Role, TensorSymmetry
from hubmerge.symmetry.verify import spec_of


def test_views_of_a_group_go_together_and_a_pass_holds_what_it_may() -> None:
    assert passes(["a", "b", "a", "c"], [30, 40, 30, 20], most=100) == [[0, 2, 1], [3]]
    assert passes(["a", "b", "a", "c"], [30, 50, 30, 20], most=100) == [[0, 2], [1, 3]]


def test_a_group_larger_than_a_pass_is_cut_and_a_view_larger_than_one_is_alone() -> None:
    assert passes(["a", "a", "a", "b"], [40, 40, 40, 10], most=100) == [[0, 1], [2, 3]]
    assert passes(["a", "a"], [300, 20], most=100) == [[0], [1]]
    assert passes([], [], most=100) == []


@pytest.mark.parametrize("name", ["bert classifier", "llama"])
def test_passes_change_no_number(name: str) -> None:
    models = [model(name, seed) for seed in (0, 1)]
    specs = [spec_of(each) for each in models]
    data = batches(name, count=2, size=3)
    (whole,) = correlations(models, specs, data)
    parts = [part for (part,) in correlations_by_group(models, specs, data, most=20_000)]
    assert len(parts) > 2
    assert [group for part in parts for group in part] == list(whole)
    for part in parts:
        for group, found in part.items():
            assert np.array_equal(found.plain, whole[group].plain)
            assert found.nested.keys() == whole[group].nested.keys()
            assert all(np.array_equal(found.nested[inner], whole[group].nested[inner]) for inner in found.nested)
            assert all(np.array_equal(found.between[inner], whole[group].between[inner]) for inner in found.between)


def test_batches_that_can_be_gone_through_once_only_are_kept() -> None:
    models = [model("bert classifier", seed) for seed in (0, 1)]
    specs = [spec_of(each) for each in models]
    data = batches("bert classifier", count=2, size=3)

    def once() -> Iterator[Batch]:
        yield from data

    (whole,) = correlations(models, specs, data)
    found = {
        name: each
        for (part,) in correlations_by_group(models, specs, once(), most=20_000)
        for name, each in part.items()
    }
    assert all(np.array_equal(found[name].plain, whole[name].plain) for name in whole)


def _dense(width: int) -> SymmetrySpec:
    """A layer of `width` units that write a group, and one that reads it, of 10 labels."""
    unit, label = Group("unit", "unit", Kind.PERMUTATION, width), Group("label", "label", Kind.LABELS, 10)

    def axis(group: Group, role: Role) -> tuple[tuple[Factor, ...], ...]:
        return ((Factor(group.name, role, group.size),),)

    fixed = ((Factor(None, Role.WRITES, 7),),)
    first = TensorSymmetry("first.weight", "first.weight", "", (axis(unit, Role.WRITES), fixed))
    last = TensorSymmetry("last.weight", "last.weight", "", (axis(label, Role.WRITES), axis(unit, Role.READS)))
    return SymmetrySpec("dense", {"unit": unit, "label": label}, {"first.weight": first, "last.weight": last})


def test_sums_are_a_double_for_every_pair_of_units_that_is_read() -> None:
    specs = [_dense(100), _dense(100), _dense(150)]
    assert bytes_of_sums(specs) == 8 * 100 * (100 + 150)
    assert largest_table(specs) == 8 * 100 * (100 + 150)


def test_the_estimate_has_the_sums_as_far_as_they_are_held_at_once() -> None:
    small, wide = (
        memory_of_matching([_dense(n)] * 2, {}, 0) - 2 * 4 * sum(math.prod(t.shape) for t in _dense(n).tensors.values())
        for n in (1000, 10_000)
    )
    assert small == 3 * 8 * 1000**2
    assert wide == 2**29 + 2 * 8 * 10_000**2
