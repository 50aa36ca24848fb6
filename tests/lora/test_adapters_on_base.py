"""Changes of every kind of layer, put on a base that is run, and their inner products with gradients."""

from __future__ import annotations

from copy import deepcopy
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from hubmerge.adamerging.changes import Whole
from hubmerge.lora.adapter import Adapter, Factors
from hubmerge.lora.in_basis import is_turned, thin
from hubmerge.lora.on_base import OnBase


def drawn(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32)


class Layers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear, self.words = nn.Linear(3, 4), nn.Embedding(5, 3)
        self.conv = nn.Conv2d(2, 3, kernel_size=2)


def test_an_adapter_changes_a_copy_of_its_base_and_the_base_stays() -> None:
    a, b = {"linear": drawn(2, 3), "words": drawn(2, 5), "conv": drawn(2, 8)}, {"linear": drawn(4, 2)}
    b |= {"words": drawn(3, 2), "conv": drawn(3, 2)}
    adapter = Adapter(
        "a",
        {name: Factors(a[name], b[name], 0.5) for name in a},
        embeddings=frozenset({"words"}),
        copies={"conv.bias": drawn(3)},
        biases={"linear": drawn(4)},
    )
    base = Layers()
    before = deepcopy(base.state_dict())
    found = OnBase(partial(deepcopy, base), [adapter], [[]]).model(0).state_dict()
    expected = {
        "linear.weight": before["linear.weight"] + 0.5 * torch.from_numpy(b["linear"] @ a["linear"]),
        "linear.bias": before["linear.bias"] + torch.from_numpy(drawn(4)),
        # an embedding's table is (words, width), and its change is B A turned
        "words.weight": before["words.weight"] + 0.5 * torch.from_numpy((b["words"] @ a["words"]).T),
        # a kernel's sizes are columns of A: 2 channels of 2 x 2
        "conv.weight": before["conv.weight"] + 0.5 * torch.from_numpy(b["conv"] @ a["conv"]).reshape(3, 2, 2, 2),
        "conv.bias": torch.from_numpy(drawn(3)),
    }
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        torch.testing.assert_close(found[name], values)
        assert torch.equal(base.state_dict()[name], before[name])


@pytest.mark.parametrize("turned", [False, True])
def test_the_inner_product_with_a_gradient_is_that_of_the_dense_change(turned: bool) -> None:
    factors = Factors(drawn(2, 3), drawn(4, 2), 0.5)
    change = 0.5 * factors.b @ factors.a
    whole = torch.from_numpy(np.ascontiguousarray(change.T if turned else change))
    gradient = torch.from_numpy(drawn(*whole.shape))
    own = thin(factors, transposed=turned)
    assert own.dot(gradient) == pytest.approx(float((gradient * whole).sum()), rel=1e-5)
    assert Whole(whole).dot(gradient) == pytest.approx(float((gradient * whole).sum()), rel=1e-5)


def test_layers_that_store_in_by_out_are_told_by_the_config() -> None:
    factors = {"c_attn": Factors(drawn(1, 2), drawn(2, 1))}
    assert is_turned([Adapter("a", factors, config={"fan_in_fan_out": True})], "c_attn")
    assert not is_turned([Adapter("a", factors)], "c_attn")
