"""`transport_deltas` on models whose alignment is known: a delta arrives where it belongs, exactly."""

from __future__ import annotations

import copy
from collections.abc import Collection
from typing import Any

import pytest
import torch
from apart_models import batches, model

from hubmerge import PlanError
from hubmerge.heterogeneous import Donor, transport_deltas
from hubmerge.symmetry import random_element, spec_of, transform

NAMES = ("llama", "qwen3", "gpt2", "vit", "bert", "resnet basic", "t5")


def twin(own: Any, seed: int, but: Collection[str] = ()) -> Any:
    """The model after a random element of its symmetries: orders, signs, scales, rotations, bases."""
    spec = spec_of(own)
    element = {name: part for name, part in random_element(spec, seed).items() if name not in spec.named(but)}
    other = copy.deepcopy(own).double()
    other.load_state_dict(transform(spec, other.state_dict(), element))
    return other


def trained(own: Any, seed: int) -> Any:
    """The model with a small random change of every number."""
    random = torch.Generator().manual_seed(seed)
    other = copy.deepcopy(own)
    with torch.no_grad():
        for values in other.parameters():
            values.add_(torch.randn(values.shape, generator=random, dtype=values.dtype), alpha=0.05)
    return other


def case(name: str, but: Collection[str] = ()) -> tuple[Any, Donor, Any]:
    """A target, a donor with the target after a random symmetry for its base, and the donor in the target's units."""
    target = model(name, 3).double()
    goal = trained(target, 5)
    return target, Donor(twin(goal, 11, but), twin(target, 11, but)), goal


def assert_same(found: Any, goal: Any, tolerance: float) -> None:
    ours, theirs = found.state_dict(), goal.state_dict()
    for name, values in ours.items():
        if values.is_floating_point():
            assert (values - theirs[name]).abs().max() <= tolerance, name


def doubled(name: str) -> list[dict[str, torch.Tensor]]:
    return [{k: v.double() if v.is_floating_point() else v for k, v in each.items()} for each in batches(name)]


@pytest.mark.parametrize("name", NAMES)
def test_activations_bring_a_delta_back_from_a_base_that_is_the_target_after_a_random_symmetry(name: str) -> None:
    target, donor, goal = case(name, but=("res", "dec", "enc"))
    found = transport_deltas(target, [donor], doubled(name))
    assert_same(found.model, goal, 1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_weights_do_so_without_data(name: str) -> None:
    target, donor, goal = case(name, but=("res",))
    found = transport_deltas(target, [donor], align="weights")
    assert_same(found.model, goal, 1e-6)


def test_with_a_weight_of_0_the_target_stays_bit_for_bit() -> None:
    target, other = model("llama", 3), model("llama", 4)
    found = transport_deltas(target, [Donor(trained(other, 5), other, 0.0)], batches("llama"))
    theirs = target.state_dict()
    assert all(torch.equal(values, theirs[name]) for name, values in found.model.state_dict().items())
    assert found.reports[0].share > 0.05


def test_a_donor_whose_base_is_the_target_is_task_arithmetic() -> None:
    target = model("gpt2", 3)
    one, two = trained(target, 5), trained(target, 6)
    found = transport_deltas(target, [Donor(one, target, 0.5), Donor(two, target, -2.0)], align="weights")
    base, ours, theirs = (each.state_dict() for each in (target, one, two))
    for name, values in found.model.state_dict().items():
        expected = base[name] + 0.5 * (ours[name] - base[name]) - 2.0 * (theirs[name] - base[name])
        torch.testing.assert_close(values, expected, rtol=1e-5, atol=1e-6)
    assert [report.share for report in found.reports] == pytest.approx([1.0, 1.0])


def test_what_a_donor_learned_in_units_that_the_target_has_not_is_left_out_and_told() -> None:
    """8 of 24 hidden units of the donor have no partner among the target's 16."""
    target, base = model("llama", 3, intermediate_size=16), model("llama", 4)
    found = transport_deltas(target, [Donor(trained(base, 5), base)], batches("llama"), min_similarity=-1.0)
    report = found.reports[0]
    assert (report.groups["ff0"].sizes, report.groups["ff0"].matched) == ((16, 24), 16)
    carried = report.tensors["model.layers.0.mlp.down_proj.weight"]
    assert 0.6 < carried.share < 1
    assert carried.share == pytest.approx(carried.carried / carried.original)
    assert report.groups["kv0"].support > 1  # turned features are made of several


def test_donors_that_do_not_go_with_the_target_are_refused() -> None:
    target, other = model("llama", 3), model("llama", 4, intermediate_size=32)
    with pytest.raises(PlanError) as refused:
        transport_deltas(target, [Donor(model("llama", 5), other)], align="weights")
    assert str(refused.value) == (
        "tensor 'model.layers.0.mlp.gate_proj.weight' is [32, 16] in donor 1's base and [24, 16] in donor 1 · donors · "
        "give the base that the donor was trained from"
    )
    with pytest.raises(PlanError) as refused:
        transport_deltas(target, [Donor(model("gpt2", 5), model("gpt2", 6))], align="weights")
    assert str(refused.value) == (
        "the target is llama, donor 1's base is gpt2 · models · merge models of one architecture"
    )
    with pytest.raises(PlanError) as refused:
        transport_deltas(target, [Donor(other, other)])
    assert str(refused.value) == ("aligning by activations needs data · batches · give batches, or align='weights'")
