"""A budget of a recipe that is spent where units are least alike."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pleas_models import images, pleas, resnet
from safetensors.numpy import load_file, save_file

import hubmerge
from hubmerge.errors import HubmergeError

WEIGHTS = "model.safetensors"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`other` is `base` but for its second stage."""
    resnet(tmp_path / "base", 0, ("x", "y"))
    resnet(tmp_path / "other", 0, ("x", "y"))
    tensors = load_file(tmp_path / "other" / WEIGHTS)
    random = np.random.default_rng(0)
    for name, values in tensors.items():
        if "stages.1" in name and name.endswith("convolution.weight"):
            tensors[name] = random.standard_normal(values.shape).astype(values.dtype)
    save_file(tensors, tmp_path / "other" / WEIGHTS, {"format": "pt"})
    images(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def asked(**align: Any) -> dict[str, Any]:
    return pleas("./base", "./other", align={"widths": "union", "budget": 2.0, **align}, fit="none")


def widths(out: Path) -> list[int]:
    return json.loads((out / "config.json").read_text())["hidden_sizes"]  # type: ignore[no-any-return]


def test_a_greedy_budget_widens_the_stage_that_differs_and_a_uniform_one_all(here: Path) -> None:
    record = hubmerge.merge(asked(policy="greedy"), here / "greedy").assembly
    hubmerge.merge(asked(), here / "uniform")
    assert record is not None
    assert record.cost.multiply_adds <= 2 * record.base_cost.multiply_adds
    greedy, uniform = widths(here / "greedy"), widths(here / "uniform")
    assert greedy[1] == 12  # every unit of the stage that differs stays apart
    assert uniform[1] < 12
    assert greedy[0] <= uniform[0]
    assert all(check.passed for check in hubmerge.verify_merge(here / "greedy", reload=False).checks)


def test_without_data_it_goes_by_the_weights(here: Path) -> None:
    hubmerge.merge({**asked(policy="greedy", method="weights"), "calibration": None}, here / "out")
    assert widths(here / "out")[0] == 4
    assert widths(here / "out")[1] > 6


def test_its_plan_says_that_sizes_are_known_later_and_has_a_hash_of_its_own(here: Path) -> None:
    plans = [hubmerge.build_plan(asked(policy=policy)) for policy in ("greedy", "uniform", None)]
    later = "which groups a greedy budget makes wider is known when units are matched: sizes are those of a uniform one until then"
    assert [later in plan.notes for plan in plans] == [True, False, False]
    assert plans[0].hash != plans[1].hash
    assert [plan.to_dict()["exact"] for plan in plans] == [False, True, True]


@pytest.mark.parametrize(
    ("align", "text"),
    [
        (
            {"widths": "union", "policy": "greedy"},
            "policy says how a budget is spent, and there is none · recipe: align.policy · add budget, or remove it",
        ),
        (
            {"widths": "union", "policy": "greedy", "budget": 2.0, "method": "identity"},
            (
                "policy: greedy goes by how alike units are, and align: identity compares none · recipe: align.policy · remove it, or "
                "write align: activations"
            ),
        ),
    ],
)
def test_a_policy_without_anything_to_decide_is_refused(align: dict[str, Any], text: str, here: Path) -> None:
    with pytest.raises(HubmergeError) as refused:
        hubmerge.build_plan(pleas("./base", "./other", align=align, fit="none"))
    assert str(refused.value) == text
