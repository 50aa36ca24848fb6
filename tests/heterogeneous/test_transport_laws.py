"""`transport_deltas` on models whose alignment is known: a delta arrives where it belongs, exactly."""

from __future__ import annotations

import copy
from collections.abc import Collection
from typing import Any

import pytest
import torch
from apart_models import batches, model

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
    found = transport_deltas(target, [donor], doubled(name), without=("res",) if name != "resnet basic" else ())
    assert_same(found.model, goal, 1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_weights_do_so_without_data(name: str) -> None:
    target, donor, goal = case(name, but=("res",))
    found = transport_deltas(target, [donor], align="weights", without=("res",) if name != "resnet basic" else ())
    assert_same(found.model, goal, 1e-6)
