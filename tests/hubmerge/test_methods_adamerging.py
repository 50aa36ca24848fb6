"""AdaMerging: the gradient of its coefficients, its first steps worked by hand, its descent against one through the merge itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from hubmerge import MergedState, merge_adapters, merge_state_dicts
from hubmerge.adamerging.descent import Adam
from hubmerge.adamerging.entropy import mean_entropy, parts_of
from hubmerge.adamerging.working import head_of
from hubmerge.errors import MergeError, NumbersError, PlanError, RecipeError

SHAPES = {"body.weight": (4, 3), "body.bias": (4,), "head.weight": (2, 4)}


class Small(nn.Module):
    """A classifier of three numbers into two classes."""

    def __init__(self, weights: Mapping[str, torch.Tensor] | None = None) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(3, 4), nn.Linear(4, 2, bias=False)
        if weights is not None:
            self.load_state_dict(dict(weights))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(self.body(x).tanh())
        return logits


def weights(seed: int, scale: float = 1.0) -> dict[str, torch.Tensor]:
    drawn = torch.Generator().manual_seed(seed)
    return {name: scale * torch.randn(shape, generator=drawn) for name, shape in SHAPES.items()}


def models() -> tuple[Small, list[Small]]:
    base = weights(0)
    parents = [{name: values + weights(seed, 0.5)[name] for name, values in base.items()} for seed in (1, 2)]
    return Small(base), [Small(own) for own in parents]


def data(seed: int, rows: int = 6) -> list[dict[str, torch.Tensor]]:
    return [{"x": torch.randn((rows, 3), generator=torch.Generator().manual_seed(seed))}]


def found(inner: str = "task_arithmetic", **parameters: Any) -> MergedState:
    base, parents = models()
    merged = merge_state_dicts(
        "adamerging", parents, base=base, parameters={"inner": inner, **parameters}, calibration=[data(3), data(4)]
    )
    assert isinstance(merged, MergedState)
    return merged


def through_the_merge(
    deltas: Sequence[Mapping[str, torch.Tensor]], steps: int, rate: float, *, layer_wise: bool
) -> np.ndarray:
    """The descent with torch's own gradient through the merged weights and torch's own Adam; (tensors or 1, parents)."""
    base = models()[0].state_dict()
    free = torch.full((len(SHAPES) if layer_wise else 1, 2), 0.3, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([free], lr=rate)
    model = Small()
    for _ in range(steps):
        merged = {}
        for i, name in enumerate(SHAPES):
            shares = free[i if layer_wise else 0].float()
            merged[name] = base[name] + sum(share * own[name] for share, own in zip(shares, deltas, strict=True))
        loss = torch.zeros(())
        for seed in (3, 4):
            logits = torch.func.functional_call(model, merged, (data(seed)[0]["x"],))
            loss = loss + torch.distributions.Categorical(logits=logits).entropy().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            free.clamp_(0, 1)
    return free.detach().numpy()


def own_deltas() -> list[dict[str, torch.Tensor]]:
    base, parents = models()
    start = base.state_dict()
    return [{name: values - start[name] for name, values in parent.state_dict().items()} for parent in parents]


@pytest.mark.parametrize("granularity", ["layer", "task"])
def test_it_is_the_descent_through_the_merge_though_no_graph_goes_through_it(granularity: str) -> None:
    merged = found(granularity=granularity, steps=30, learning_rate=0.05)
    expected = through_the_merge(own_deltas(), 30, 0.05, layer_wise=granularity == "layer")
    for i, name in enumerate(SHAPES):
        row = expected[i if granularity == "layer" else 0]
        np.testing.assert_allclose(merged.coefficients[name], row, atol=2e-4, err_msg=name)
    assert sum(merged.state["entropies"]) < sum(merged.state["entropies_before"])
    base, parents = models()
    name = "body.weight"
    shares = merged.coefficients[name]
    start = base.state_dict()[name]
    plain = start + sum(c * (p.state_dict()[name] - start) for c, p in zip(shares, parents, strict=True))
    torch.testing.assert_close(merged[name], plain)


def test_the_first_step_moves_every_coefficient_by_the_learning_rate() -> None:
    # Adam's first step is rate * g / (|g| + 1e-8): its length is the rate, whatever the gradient's
    merged = found(steps=1, learning_rate=0.01)
    moved = np.abs(np.array(list(merged.coefficients.values())) - 0.3)
    np.testing.assert_allclose(moved, 0.01, rtol=1e-4)


def test_adam_is_worked_by_hand() -> None:
    adam = Adam(0.1, (1,))
    # m = .1 * 2 = .2, v = .001 * 4; corrected 2 and 4: a step of .1 * 2 / 2
    np.testing.assert_allclose(adam.step(np.array([2.0])), 0.1)
    # m = .9 * .2 + .1 * -1 = .08, over 1 - .81: .421053; v = .999 * .004 + .001 = .004996, over .001999: 2.499250
    np.testing.assert_allclose(adam.step(np.array([-1.0])), 0.1 * 0.4210526 / np.sqrt(2.4992496), rtol=1e-6)


def test_coefficients_stay_in_bounds_unless_they_may_leave_them() -> None:
    inside = np.array(list(found(steps=40, learning_rate=0.1).coefficients.values()))
    free = np.array(list(found(steps=40, learning_rate=0.1, clamp=False).coefficients.values()))
    assert inside.min() >= 0
    assert inside.max() <= 1
    assert free.min() < 0 or free.max() > 1


def test_without_a_step_it_is_the_inner_method_with_the_first_coefficients() -> None:
    base, parents = models()
    start, own = base.state_dict(), [parent.state_dict() for parent in parents]
    plain = merge_state_dicts("task_arithmetic", own, base=start, parameters={"weight": 0.3})
    for name, values in found(steps=0).items():
        torch.testing.assert_close(values, plain[name], rtol=0, atol=0)


def test_the_deltas_of_ties_are_trimmed_and_of_one_sign_before_they_are_weighed() -> None:
    base, parents = models()
    start = base.state_dict()
    merged = found("ties", steps=20, learning_rate=0.05, density=0.5, trim_scope="tensor")
    processed = []
    for place in range(2):
        alone = {"weight": [float(place == k) for k in range(2)], "density": 0.5, "normalize": False, "elect": "plain"}
        own = [parent.state_dict() for parent in parents]
        only = merge_state_dicts("ties", own, base=start, parameters=alone)
        processed.append({name: only[name] - start[name] for name in SHAPES})
    expected = through_the_merge(processed, 20, 0.05, layer_wise=True)
    np.testing.assert_allclose(list(merged.coefficients.values()), expected, atol=5e-4)


def test_around_awd_the_disentangled_deltas_are_weighed() -> None:
    base, parents = models()
    own, start = [parent.state_dict() for parent in parents], base.state_dict()
    merged = merge_state_dicts(
        "awd", parents, base=base, parameters={"inner": "adamerging", "steps": 20}, calibration=[data(3), data(4)]
    )
    assert isinstance(merged, MergedState)
    for name in SHAPES:
        given = {"weight": list(merged.coefficients[name])}
        plain = merge_state_dicts("awd", own, base=start, parameters=given)
        torch.testing.assert_close(merged[name], plain[name], rtol=0, atol=0)
        assert merged.coefficients[name] != (0.3, 0.3)


def test_a_parents_own_head_answers_for_its_data_and_keeps_its_first_coefficients() -> None:
    merged = found(steps=5, heads="own")
    assert merged.coefficients["head.weight"] == (0.3, 0.3)
    assert merged.coefficients["body.weight"] != (0.3, 0.3)
    assert merged.state["own_heads"] == ["head.weight"]
    assert found(steps=5).state["own_heads"] == []


def test_a_head_that_is_tied_is_none_of_a_parents_own() -> None:
    model = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False))
    assert head_of(model, {"input": torch.zeros(1, 3)}, "a") == ("1.weight",)
    model[1].weight = model[0].weight
    with pytest.raises(PlanError) as caught:
        head_of(model, {"input": torch.zeros(1, 3)}, "a")
    told = "its head 1 is tied to another module, and cannot be exchanged alone · a · write heads: merged"
    assert str(caught.value) == told


def test_parents_in_another_order_with_their_data_get_their_own_coefficients() -> None:
    base, parents = models()
    given = {"steps": 20, "learning_rate": 0.02}
    one, other = (
        merge_state_dicts("adamerging", parents[::turn], base, given, calibration=[data(3), data(4)][::turn])
        for turn in (1, -1)
    )
    assert isinstance(one, MergedState)
    assert isinstance(other, MergedState)
    for name in SHAPES:
        np.testing.assert_allclose(one.coefficients[name], other.coefficients[name][::-1], atol=1e-4)


def test_a_parent_that_learned_nothing_keeps_its_first_coefficient() -> None:
    base, (parent, _) = models()
    same = Small(base.state_dict())
    merged = merge_state_dicts("adamerging", [parent, same], base, {"steps": 5}, calibration=[data(3), data(4)])
    assert isinstance(merged, MergedState)
    assert {row[1] for row in merged.coefficients.values()} == {0.3}
    assert 0.3 not in {row[0] for row in merged.coefficients.values()}


def test_the_same_seed_gives_the_same_coefficients_and_the_models_stay_as_they_were() -> None:
    one, other = found(steps=7, batch=2), found(steps=7, batch=2)
    assert one.coefficients == other.coefficients
    base, parents = models()
    before = [{name: values.clone() for name, values in model.state_dict().items()} for model in (base, *parents)]
    merge_state_dicts("adamerging", parents, base=base, parameters={"steps": 2}, calibration=data(3))
    for model, kept in zip((base, *parents), before, strict=True):
        assert all(torch.equal(values, kept[name]) for name, values in model.state_dict().items())


def test_the_entropy_of_two_classes_is_worked_by_hand_and_tokens_that_fill_up_do_not_count() -> None:
    # softmax (log 3, 0) = (3/4, 1/4): 3/4 log 4/3 + 1/4 log 4
    logits = torch.tensor([[[np.log(3), 0], [0, 0]]])
    by_hand = 0.75 * np.log(4 / 3) + 0.25 * np.log(4)

    def model(input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        assert input_ids.shape == attention_mask.shape
        return logits

    batch = {"input_ids": torch.zeros(1, 2), "attention_mask": torch.tensor([[1, 0]])}
    assert float(mean_entropy(model, batch, "m")) == pytest.approx(by_hand)
    batch["attention_mask"] = torch.tensor([[1, 1]])
    assert float(mean_entropy(model, batch, "m")) == pytest.approx((by_hand + np.log(2)) / 2)


def test_batches_are_cut_into_parts_without_their_labels() -> None:
    batch = {"x": torch.arange(5), "labels": torch.zeros(5)}
    assert [part["x"].tolist() for part in parts_of([batch, batch], 3)] == [[0, 1, 2], [3, 4]] * 2
    assert [list(part) for part in parts_of([batch], 9)] == [["x"]]


def test_what_cannot_be_is_refused_by_name() -> None:
    base, parents = models()
    own, start = [parent.state_dict() for parent in parents], base.state_dict()
    with pytest.raises(RecipeError, match="adamerging needs calibration, and none is given"):
        merge_state_dicts("adamerging", own, base=start)
    with pytest.raises(PlanError, match=r"calibration= runs the parents, and parents\[0\], parents\[1\] cannot be run"):
        merge_state_dicts("adamerging", own, base=start, calibration=data(3))
    adapters = [{"m": (np.ones((1, 3), np.float32), np.ones((2, 1), np.float32))}] * 2
    with pytest.raises(RecipeError, match="awd needs calibration, and none is given"):
        merge_adapters("awd", adapters, basis="knots", parameters={"inner": "adamerging"})
    with pytest.raises(RecipeError, match="and normalize does something else with them"):
        merge_state_dicts("adamerging", parents, base=base, parameters={"normalize": True}, calibration=data(3))
    with pytest.raises(RecipeError, match="and elect does something else with them"):
        found("ties", elect="weighted")
    with pytest.raises(MergeError, match="it cannot be run on the calibration data"):
        merge_state_dicts("adamerging", parents, base=base, calibration=[{"y": torch.zeros(2, 3)}])
    with pytest.raises(NumbersError, match=r"answers on the data of parents\[0\] are not finite"):
        merge_state_dicts("adamerging", parents, base=base, calibration=[{"x": torch.full((2, 3), torch.nan)}])
