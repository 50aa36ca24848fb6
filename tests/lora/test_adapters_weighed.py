"""Methods that run models on data, on adapters in memory: against models with their dense changes, and laws of what they add."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import hubmerge
from hubmerge import MergedState, merge_adapters, merge_state_dicts

SHAPES = {"body": (4, 3), "head": (2, 4)}
QUICK = {"steps": 5, "learning_rate": 0.05}


class Small(nn.Module):
    """A classifier of three numbers into two classes."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(3, 4), nn.Linear(4, 2, bias=False)
        drawn = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=drawn))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(self.body(x).tanh())
        return logits


def adapters() -> list[dict[str, tuple[Any, Any]]]:
    drawn = np.random.default_rng(1)
    return [
        {
            name: (
                drawn.normal(size=(rank, within)).astype(np.float32),
                drawn.normal(size=(out, rank)).astype(np.float32),
            )
            for name, (out, within) in SHAPES.items()
        }
        for rank in (1, 2)
    ]


def on_base(*changes: dict[str, tuple[Any, Any]]) -> list[Small]:
    found = []
    for change in changes:
        model = Small()
        with torch.no_grad():
            for name, (a, b) in change.items():
                model.get_submodule(name).weight.add_(torch.from_numpy(b @ a))
        found.append(model)
    return found


def rows(seed: int) -> list[dict[str, torch.Tensor]]:
    drawn = torch.Generator().manual_seed(seed)
    return [{"x": torch.randn((6, 3), generator=drawn), "labels": torch.randint(2, (6,), generator=drawn)}]


def dense(name: str, parents: list[Small], **parameters: Any) -> MergedState:
    merged = merge_state_dicts(name, parents, Small(), parameters, calibration=[rows(3), rows(4)])
    assert isinstance(merged, MergedState)
    return merged


def own(name: str, basis: Any = None, **parameters: Any) -> Any:
    return merge_adapters(
        name, adapters(), basis=basis, base=Small(), calibration=[rows(3), rows(4)], parameters=parameters
    )


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("sens_merging", {"temperature": 0.05}),
        ("adamerging", QUICK),
        ("adamerging", {**QUICK, "granularity": "task"}),
        ("adamerging", {**QUICK, "heads": "own"}),
    ],
)
def test_an_adapter_is_the_merge_of_base_and_adapter_less_the_base(name: str, parameters: dict[str, Any]) -> None:
    merged, expected = own(name, **parameters), dense(name, on_base(*adapters()), **parameters)
    base = Small().state_dict()
    for module, (a, b) in merged.items():
        tensor = f"{module}.weight"
        np.testing.assert_allclose(merged.coefficients[tensor], expected.coefficients[tensor], atol=1e-5)
        np.testing.assert_allclose(b @ a, (expected[tensor] - base[tensor]).numpy(), atol=1e-5)
    assert merged.coefficients.keys() == {"body.weight", "head.weight"}  # the bias is none of the adapters'
    assert not {0.3, 1.0} & set(merged.coefficients["body.weight"])  # they are not where they began
    if parameters.get("heads") == "own":  # no loss depends on the merged one
        assert merged.coefficients["head.weight"] == (0.3, 0.3)
        assert merged.state["own_heads"] == ["head.weight"]


def test_awd_with_adamerging_inside_is_that_of_the_dense_changes() -> None:
    """KnOTS' basis keeps inner products, which is all that awd asks of the changes."""
    merged = own("awd", "knots", inner="adamerging", **QUICK)
    expected = dense("awd", on_base(*adapters()), inner="adamerging", **QUICK)
    for tensor, row in merged.coefficients.items():
        np.testing.assert_allclose(row, expected.coefficients[tensor], atol=1e-4)


def test_under_ties_the_descent_runs_on_what_each_adapter_adds_in_the_basis() -> None:
    ties = {"inner": "ties", "density": 0.4}
    alone = []
    for weight in ([1.0, 0.0], [0.0, 1.0]):
        found = own("adamerging", "knots", **ties, weight=weight, init=1.0, steps=0)
        alone.append(dict(found))
    merged = own("adamerging", "knots", **ties, **QUICK)
    expected = dense("adamerging", on_base(*alone), **QUICK)
    for module, (a, b) in merged.items():
        shares = merged.coefficients[f"{module}.weight"]
        np.testing.assert_allclose(shares, expected.coefficients[f"{module}.weight"], atol=1e-4)
        whole = sum(share * (each[module][1] @ each[module][0]) for share, each in zip(shares, alone, strict=True))
        np.testing.assert_allclose(b @ a, whole, atol=1e-5)


def test_the_coefficients_are_weights_of_the_method_inside() -> None:
    ties = {"density": 0.4, "normalize": False, "elect": "plain"}
    merged = own("sens_merging", "knots", inner="ties", temperature=0.05, density=0.4)
    for module, (a, b) in merged.items():
        weight = list(merged.coefficients[f"{module}.weight"])
        plain = merge_adapters("ties", adapters(), basis="knots", parameters={**ties, "weight": weight})[module]
        np.testing.assert_allclose(b @ a, plain[1] @ plain[0], atol=1e-5)
    assert set(merged.state) == {"distances", "losses", "samples", "sensitivities", "cross_task"}
    assert set(merged.state["sensitivities"]) == {"body", "head"}


def without_labels() -> list[dict[str, torch.Tensor]]:
    return [{"x": torch.zeros(2, 3)}]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (
            {"calibration": None},
            (
                "sens_merging needs calibration, and none is given · calibration · "
                "calibration=[batches, batches], one for each adapter, and base=, the model or its folder"
            ),
        ),
        (
            {"base": None},
            (
                "sens_merging runs every adapter on its base, and none is given · base · "
                "base=, the model that they were trained on, or its folder"
            ),
        ),
        (
            {"base": {"body.weight": np.ones((4, 3), np.float32)}},
            (
                "sens_merging runs every adapter on its base, and it is no model · base · "
                "base=, the model that they were trained on, or its folder"
            ),
        ),
        (
            {"calibration": [rows(3), without_labels()]},
            (
                "the calibration data has no labels, and the loss of this model needs them · calibration of adapters[1] · "
                "give labels: numbers of classes; only language models that predict the next token need none"
            ),
        ),
        (
            {"calibration": [rows(3)] * 3},
            (
                "calibration has data for 3 parents, and there are 2 · calibration · "
                "give one iterable of batches for each parent, or one for all"
            ),
        ),
        (
            {"adapters": [{"tail": (np.ones((1, 3)), np.ones((4, 1)))}] * 2},
            "the adapter changes 'tail.weight', for which the base has no tensor · adapters[0] · is this the base it was trained on?",
        ),
        (
            {"adapters": [{"body": (np.ones((1, 4)), np.ones((3, 1)))}] * 2},
            "its change of 'body' is 3 x 4, and the base has 4 x 3 there · adapters[0] · is this the base it was trained on?",
        ),
    ],
)
def test_what_cannot_be_run_is_refused(arguments: dict[str, Any], text: str) -> None:
    given = {"base": Small(), "calibration": [rows(3), rows(4)], "adapters": adapters(), **arguments}
    with pytest.raises(hubmerge.errors.HubmergeError) as refused:
        merge_adapters("sens_merging", **given)
    assert str(refused.value) == text
