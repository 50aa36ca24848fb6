"""Sens-Merging in memory: coefficients worked by hand, measured sensitivities and distances, and refusals."""

from __future__ import annotations

from math import exp
from typing import Any

import numpy as np
import pytest
import torch

from hubmerge import MergedState, merge_state_dicts
from hubmerge.errors import HubmergeError
from hubmerge.sensitivity.coefficients import cross_task, layers_of, sens_coefficients

NAMES = ("layers.0.w", "layers.1.w", "head.w")
BASE = {name: np.zeros(2, np.float32) for name in NAMES}
FIRST = {name: np.array([1, 2], np.float32) for name in NAMES}
SECOND = {name: np.array([3, -4], np.float32) for name in NAMES}
MEASURED = {
    0: {"layers.0.w": 3.0, "layers.1.w": np.array([1.5, 2.5]), "head.w": 0.0},
    1: {"layers.0.w": 0.0, "layers.1.w": 1.0, "head.w": torch.tensor(0.0)},
}


def merged(statistics: Any = MEASURED, parents: Any = (FIRST, SECOND), **parameters: Any) -> MergedState:
    found = merge_state_dicts("sens_merging", [*parents], BASE, parameters, statistics=statistics)
    assert isinstance(found, MergedState)
    return found


def fault_of(**given: Any) -> str:
    with pytest.raises(HubmergeError) as caught:
        merge_state_dicts(**{"name": "sens_merging", "parents": [FIRST, SECOND], "base": BASE, **given})
    return str(caught.value)


def test_a_worked_example() -> None:
    # alpha: (3, 4, 0) / 5 and (0, 1, 0) / 1; kappa: 3 / 4 and 1 / 4; alpha * kappa / 0.5 in the first layer: 0.9 and 0,
    # in the second 1.2 and 0.5; in the head nothing is sensitive, and both count 1
    own = {0: {**MEASURED[0], "cross_task": 6}, 1: {**MEASURED[1], "cross_task": 2}}
    found = merged(own, temperature=0.5)
    first, second = 2 * exp(0.9) / (exp(0.9) + 1), 2 * exp(1.2) / (exp(1.2) + exp(0.5))
    expected = {"layers.0.w": (first, 2 - first), "layers.1.w": (second, 2 - second), "head.w": (1, 1)}
    assert found.coefficients == {name: pytest.approx(row) for name, row in expected.items()}
    for name, (a, b) in expected.items():
        np.testing.assert_allclose(found[name], a * FIRST[name] + b * SECOND[name], rtol=1e-6)
    assert found.state["cross_task"] == [0.75, 0.25]
    assert found.state["sensitivities"] == {"layers.0": [3, 0], "layers.1": [4, 1], "head": [0, 0]}


def test_weights_and_lambda_come_on_top_of_the_coefficients() -> None:
    plain, doubled = merged(), merged(weight=[2, 0], **{"lambda": 3})
    a = plain.coefficients["layers.0.w"][0]
    np.testing.assert_allclose(doubled["layers.0.w"], 3 * 2 * a * FIRST["layers.0.w"], rtol=1e-6)
    assert doubled.coefficients == plain.coefficients


def test_inside_ties_the_sign_is_elected_without_coefficients_and_agreeing_deltas_are_added() -> None:
    # entry 0: both agree; entry 1: 2 - 4 elects minus, and only the second parent's -4 stays
    found = merged(inner="ties", temperature=0.1)
    for name in NAMES:
        a, b = found.coefficients[name]
        np.testing.assert_allclose(found[name], [a * 1 + b * 3, b * -4], rtol=1e-6)


def test_at_a_low_temperature_the_most_sensitive_parent_counts_alone_at_a_high_one_all_alike() -> None:
    assert merged(temperature=1e-4).coefficients["layers.0.w"] == pytest.approx((2, 0))
    assert merged(temperature=1e6).coefficients["layers.0.w"] == pytest.approx((1, 1))


def test_one_parent_is_merged_by_the_inner_method_alone() -> None:
    found = merged({0: MEASURED[0]}, parents=[FIRST])
    assert set(found.coefficients.values()) == {(1.0,)}
    assert all(np.array_equal(found[name], FIRST[name]) for name in NAMES)


def test_parents_in_another_order_with_their_statistics_give_the_same_numbers() -> None:
    there = merged({0: {**MEASURED[0], "cross_task": 5}, 1: {**MEASURED[1], "cross_task": 1}}, temperature=0.3)
    back = merged(
        {"parents[0]": {**MEASURED[1], "cross_task": 1}, "parents[1]": {**MEASURED[0], "cross_task": 5}},
        parents=[SECOND, FIRST],
        temperature=0.3,
    )
    for name in NAMES:
        np.testing.assert_allclose(there[name], back[name], rtol=1e-6)
        assert there.coefficients[name] == pytest.approx(back.coefficients[name][::-1])


def test_what_is_further_from_the_others_counts_more_by_distance_and_less_by_similarity() -> None:
    distances = np.array([[0, 1, 2], [1, 0, 0], [4, 0, 0]], float)
    np.testing.assert_allclose(cross_task(distances, "distance"), np.array([3, 1, 4]) / 8)
    alike = np.array([exp(-1) + exp(-2), exp(-1) + 1, exp(-4) + 1])
    np.testing.assert_allclose(cross_task(distances, "similarity"), alike / alike.sum())
    far = np.where(distances > 0, distances + 5000, 0)[:2, :2]
    np.testing.assert_allclose(cross_task(far, "similarity"), [0.5, 0.5])
    np.testing.assert_allclose(cross_task(np.zeros((2, 2)), "distance"), [0.5, 0.5])
    np.testing.assert_allclose(cross_task(np.zeros((1, 1)), "similarity"), [1])
    np.testing.assert_allclose(sens_coefficients(np.zeros((1, 3)), np.ones(3), 0.01), [[1, 1, 1]])


def test_a_layer_is_a_block_by_the_names_and_what_is_outside_is_for_itself() -> None:
    names = ("model.embed_tokens.weight", "model.layers.0.mlp.up.weight", "model.layers.0.norm.weight")
    names += (
        "model.layers.1.mlp.up.weight",
        "model.layers.1.norm.weight",
        "model.norm.weight",
        "lm_head.weight",
        "gain",
    )
    assert list(layers_of(names).values()) == [
        "model.embed_tokens", "model.layers.0", "model.layers.0", "model.layers.1", "model.layers.1", "model.norm", "lm_head", "gain",
    ]  # fmt: skip


class Small(torch.nn.Module):
    """x -> logits of three classes, through two layers and a head."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.layers = torch.nn.ModuleList([torch.nn.Linear(4, 4) for _ in range(2)])
            self.head = torch.nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = torch.tanh(layer(x))
        return self.head(x)  # type: ignore[no-any-return]


def data(seed: int, *sizes: int) -> list[dict[str, torch.Tensor]]:
    random = torch.Generator().manual_seed(seed)
    return [
        {"x": torch.randn(size, 4, generator=random), "labels": torch.randint(3, (size,), generator=random)}
        for size in sizes
    ]


def test_sensitivities_and_distances_are_measured_as_the_formulas_say() -> None:
    models, start, own = [Small(1), Small(2), Small(3)], Small(0), [data(1, 3, 2), data(2, 4), data(3, 1)]
    kept = {name: values.clone() for name, values in models[0].state_dict().items()}
    found = merge_state_dicts("sens_merging", models, start, {"temperature": 0.1}, calibration=own)
    assert isinstance(found, MergedState)
    sums = []
    for model, batches in zip(models, own, strict=True):
        total = {name: 0.0 for name, _ in model.named_parameters()}
        for batch in batches:
            for x, label in zip(batch["x"], batch["labels"], strict=True):
                loss = torch.nn.functional.cross_entropy(model(x[None]), label[None])
                for (name, w), g in zip(
                    model.named_parameters(), torch.autograd.grad(loss, [*model.parameters()]), strict=True
                ):
                    total[name] += float((w * g).detach().abs().sum()) / sum(len(b["x"]) for b in batches)
        sums.append(total)
    distances = np.zeros((3, 3))
    with torch.no_grad():
        for t, model in enumerate(models):
            for s, batches in enumerate(own):
                x = torch.cat([batch["x"] for batch in batches])
                distances[t, s] = float((model(x) - models[s](x)).norm(dim=-1).mean())
    np.testing.assert_allclose(found.state["distances"], distances, rtol=1e-5, atol=1e-6)
    given = {t: {**own, "cross_task": distances[t].sum()} for t, own in enumerate(sums)}
    states = [model.state_dict() for model in (*models, start)]
    again = merge_state_dicts("sens_merging", states[:3], states[3], {"temperature": 0.1}, statistics=given)
    assert isinstance(again, MergedState)
    for name, row in again.coefficients.items():
        assert found.coefficients[name] == pytest.approx(row, rel=1e-5)
        torch.testing.assert_close(found[name], again[name])
    assert all(torch.equal(values, kept[name]) for name, values in models[0].state_dict().items())
    assert all(parameter.grad is None for parameter in models[0].parameters())


def test_data_may_be_one_iterable_for_all_or_named_by_parent() -> None:
    models, start = [Small(1), Small(2)], Small(0)
    shared = merge_state_dicts("sens_merging", models, start, calibration=data(1, 2, 1))
    named = merge_state_dicts(
        "sens_merging", models, start, calibration={"parents[1]": iter(data(1, 3)), 0: data(1, 2, 1)}
    )
    assert isinstance(shared, MergedState)
    assert isinstance(named, MergedState)
    assert named.state["samples"] == shared.state["samples"] == [3, 3]


def test_statistics_that_do_not_go_with_the_parents_are_named() -> None:
    assert fault_of() == (
        "sens_merging needs calibration, and none is given · calibration · calibration=[batches, batches], one for each parent, with "
        "models as parents; or statistics={0: ..., 1: ...}"
    )
    second = MEASURED[1]
    for statistics, told in (
        ({0: MEASURED[0]}, "statistics has nothing of parents[1] · statistics · every parent needs its own"),
        (
            {**MEASURED, 2: {}},
            "2 is none of the parents · statistics · name them 0, 1",
        ),
        ([{}, {}], "statistics are a mapping of parents to what was measured, got [{}, {}] · statistics"),
        ({0: MEASURED[0], 1: {"head.w": 1}}, "there is nothing of tensor 'layers.0.w' and 1 more · statistics[1]"),
        (
            {0: MEASURED[0], 1: {**second, "heat.w": 1}},
            "'heat.w' is no tensor of the merge · statistics[1] · did you mean head.w?",
        ),
        (
            {0: MEASURED[0], 1: {**second, "head.w": -1}},
            "sensitivities are finite numbers of 0 or more, or arrays of them, got -1 · statistics[1]['head.w']",
        ),
        (
            {0: {**MEASURED[0], "cross_task": 1}, 1: second},
            "statistics[1] has no cross_task, and others do · statistics · give it of all or none",
        ),
    ):
        assert fault_of(statistics=statistics).startswith(told)


def test_models_may_stand_in_place_of_state_dicts_where_the_method_runs_models() -> None:
    models, start = [Small(1), Small(2)], Small(0)
    measured = {np.int64(k): dict.fromkeys(start.state_dict(), k + 1.0) for k in range(2)}
    merged = merge_state_dicts("sens_merging", models, start, statistics=measured)
    assert set(merged) == set(start.state_dict())
    assert fault_of(parents=models, base=start).startswith("sens_merging needs calibration, and none is given · ")


def test_data_that_does_not_go_with_the_models_is_named() -> None:
    models, start = [Small(1), Small(2)], Small(0)

    def told(calibration: Any, parents: Any = models) -> str:
        return fault_of(parents=parents, base=start, calibration=calibration)

    assert told(data(1, 2), [FIRST, models[1]]).startswith(
        "calibration= runs the parents, and parents[0] cannot be run · parents · give the models themselves"
    )
    assert told([data(1, 2), []]) == "the calibration data is empty · calibration[1] · give at least one batch"
    assert told([data(1, 2)] * 3).startswith("calibration has data for 3 parents, and there are 2 · calibration")
    assert told(5).startswith("calibration data is an iterable of batches, got 5 · calibration")
    for batch, fault in (
        ({"x": torch.zeros(0, 4), "labels": torch.zeros(0)}, "the batch has no rows"),
        ({"labels": torch.zeros(2)}, "the batch has nothing but labels"),
        ({"x": torch.zeros(2, 4), "labels": 1}, "labels is no tensor with rows"),
        ({"x": torch.zeros(2, 4), "labels": torch.zeros(1)}, "its tensors have not all as many rows: x 2, labels 1"),
    ):
        assert told([data(1, 2), [*data(1, 2), batch]]).startswith(f"{fault} · calibration[1][1] · ")
    blind = [{"x": torch.zeros(2, 4)}]
    assert told([data(1, 2), blind]).startswith(
        "the calibration data has no labels, and the loss of this model needs them · calibration of parents[1]"
    )
    odd = [{"x": torch.zeros(1, 4), "labels": torch.tensor([3])}]
    assert told([data(1, 2), odd]).startswith(
        "labels are numbers of classes from 0 to 2, got [3] · calibration of parents[1]"
    )
    wrong = [{"y": torch.zeros(1, 4), "labels": torch.tensor([0])}]
    assert told(wrong).startswith("it cannot be run on the calibration data (TypeError: ")


def test_a_gradient_that_is_not_finite_is_named_with_its_tensor_and_parent() -> None:
    models = [Small(1), Small(2)]
    rows = [{"x": torch.full((1, 4), torch.nan), "labels": torch.tensor([0])}]
    told = fault_of(parents=models, base=Small(0), calibration=[data(1, 1), rows])
    assert told == (
        "the gradient of tensor 'head.bias' of parents[1] is not finite · calibration of parents[1] · the parent is damaged, or a row of "
        "its calibration data is"
    )
    with torch.no_grad():
        models[1].head.weight[1, 2] = torch.inf
    told = fault_of(parents=models, base=Small(0), calibration=data(1, 1))
    assert told.startswith(
        "tensor 'head.weight' of parents[1] has a number that is not finite · calibration of parents[1]"
    )
