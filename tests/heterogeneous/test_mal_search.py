"""How far a layer drifts and which factor it takes, by hand: the base is y = x, the donor y = 2 x, a merge y = (1 + f) x."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from mal_toys import ALIGNMENT, PAIR, Toy
from torch import nn

from hubmerge.errors import PlanError
from hubmerge.heterogeneous.mal_drift import drift, layer_calls, mean_loss, reference_of
from hubmerge.heterogeneous.mal_rounds import FACTORS
from hubmerge.heterogeneous.mal_search import Search
from hubmerge.heterogeneous.mal_zoo import Zoo

X = torch.tensor([[3.0, 4.0], [0.0, 1.0]])
BATCHES = [{"x": X[:1]}, {"x": X[1:]}]


def search(tau: float, probe: Any = None, **others: Any) -> Search:
    base = Toy(1)
    reference = reference_of(base, fresh_statistics=False)
    zoo = Zoo(base, [], [], BATCHES, reference, noise=None, renormalise=False)
    control = None if probe is None else mean_loss(base, probe)
    found = Search(zoo, sorted(FACTORS, reverse=True)[:-1], tau, probe, control, 0.05)
    return replace(found, **others)


def decision(given: Search, multiple: float = 2) -> Any:
    loss = given.control
    return given.decide(Toy(1).state_dict(), loss, Toy(multiple).state_dict(), ALIGNMENT, (1, 0, PAIR))


def test_drift_is_the_norm_of_the_difference_over_the_norm_of_the_base() -> None:
    reference = reference_of(Toy(1), fresh_statistics=False)
    calls = layer_calls(reference, "layer", BATCHES)
    weight = torch.tensor([[1.0, 0.0], [0.5, 1.0]])  # adds half of the first to the second: 1.5 and 0
    assert drift(reference, "layer", {"weight": weight}, calls) == pytest.approx(1.5 / 26**0.5)
    assert drift(reference, "layer", {"weight": torch.eye(2)}, calls) == 0
    assert drift(reference, "layer", {"weight": torch.full((2, 2), torch.nan)}, calls) == float("inf")
    assert torch.equal(reference.layer.weight, torch.eye(2))


def test_drift_on_noise_is_measured_on_normal_numbers_of_the_inputs_shape() -> None:
    reference = reference_of(Toy(1), fresh_statistics=False)
    (call,) = layer_calls(reference, "layer", [{"x": torch.zeros(1000, 2)}], noise=5)
    assert call.args[0].std() == pytest.approx(1, abs=0.1)
    (again,) = layer_calls(reference, "layer", [{"x": torch.zeros(1000, 2)}], noise=5)
    assert torch.equal(call.args[0], again.args[0])
    assert drift(reference, "layer", {"weight": 1.5 * torch.eye(2)}, [call]) == pytest.approx(0.5)


def test_padded_tokens_do_not_count_in_drift() -> None:
    class Texts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(1, 1)

        def forward(self, x: torch.Tensor, attention_mask: torch.Tensor) -> Any:
            return self.layer(x)

    model = Texts()
    batch = {"x": torch.zeros(1, 3, 1), "attention_mask": torch.tensor([[1, 1, 0]])}
    (call,) = layer_calls(model, "layer", [batch])
    assert call.output.shape == (2, 1)


def test_batch_norm_that_is_to_be_estimated_anew_makes_a_scale_no_drift() -> None:
    class Normed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.config = None
            self.layer = nn.Sequential(nn.Conv2d(1, 1, 1, bias=False), nn.BatchNorm2d(1, eps=1e-12))

        def forward(self, x: torch.Tensor) -> Any:
            return self.layer(x)

    base = Normed()
    batch = {"x": torch.randn(4, 1, 3, 3, generator=torch.Generator().manual_seed(0))}
    scaled = {name: values.clone() for name, values in base.layer.state_dict().items()}
    scaled["0.weight"] = 3 * scaled["0.weight"]
    for fresh, wanted in ((True, 0.0), (False, 2.0)):
        reference = reference_of(base, fresh_statistics=fresh)
        calls = layer_calls(reference, "layer", [batch])
        assert drift(reference, "layer", scaled, calls) == pytest.approx(wanted, abs=1e-4)
    assert base.layer[1].num_batches_tracked == 0
    assert scaled["1.num_batches_tracked"] == 0


def test_the_largest_factor_within_tau_is_taken() -> None:
    found = decision(search(0.12))
    assert (found.factor, found.accepted, found.why) == (0.1, True, "")
    assert found.drift == pytest.approx(0.1)
    assert decision(search(10)).factor == 0.5


def test_a_layer_whose_smallest_factor_drifts_too_far_is_refused_with_its_drift() -> None:
    found = decision(search(0.1), multiple=11)  # y = (1 + 10 f) x
    assert (found.factor, found.accepted) == (0.0, False)
    assert found.drift == pytest.approx(0.5)
    assert found.why == "at 0.05 its output drifts by 0.500, more than 0.1"


def test_with_a_probe_the_loss_decides_too() -> None:
    probe = [{"x": X, "labels": 1.2 * X}]  # the loss is (f - .2)^2 times the mean square of x, 6.5
    assert decision(search(10, probe)).factor == 0.4  # as far above .2 as the base is below
    found = decision(search(10, probe, eps=0.0, factors=(0.5,)))
    assert found.why == "at 0.5 the loss is 0.5850, more than 0.2600"
    assert found.loss == pytest.approx(0.585)


def test_the_best_factor_has_the_lowest_loss_and_is_refused_where_none_is_lower() -> None:
    probe = [{"x": X, "labels": 1.2 * X}]
    found = decision(search(10, probe, choose="best"))
    assert (found.factor, found.accepted) == (0.2, True)
    assert found.loss == pytest.approx(0, abs=1e-9)
    found = decision(search(10, [{"x": X, "labels": 0.9 * X}], choose="best"))
    assert (found.accepted, found.why) == (False, "no factor lowers the loss of 0.0650")


def test_a_loss_that_is_not_a_number_is_too_high() -> None:
    probe = [{"x": X, "labels": 1.2 * X}]
    found = decision(search(10, probe, control=float("nan")))
    assert not found.accepted


def test_a_probe_without_labels_is_refused() -> None:
    with pytest.raises(PlanError) as caught:
        mean_loss(Toy(1), [{"x": X}])
    assert str(caught.value) == "the model gives no loss on the probe · probe · give batches with labels"


def test_the_loss_of_batches_of_unlike_sizes_is_that_of_all_samples() -> None:
    labels = torch.zeros(2, 2)
    apart = [{"x": X[:1], "labels": labels[:1]}, {"x": X[1:], "labels": labels[1:]}]
    assert mean_loss(Toy(1), apart) == pytest.approx(6.5)
