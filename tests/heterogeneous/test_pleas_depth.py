"""Recipes that put models of other depths together, and RegMean in recipes: planned, merged, recorded and verified."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pleas_models import planned, pleas, vit
from safetensors.torch import load_file

import hubmerge
from hubmerge import verify_merge
from hubmerge.errors import HubmergeError
from hubmerge.heterogeneous.depths import StageDepths
from hubmerge.heterogeneous.plan_types import AssemblyPlan

STAGE = "resnet.encoder.stages.1.layers"
LEFT = "the base's others stay its own, other models' are left out"
NEEDS = "add calibration: with a dataset, a file or a folder; align: weights with fit: none needs none"

pytestmark = pytest.mark.usefixtures("in_pleas_zoo")


def faults(**changes: Any) -> list[str]:
    with pytest.raises(HubmergeError) as refused:
        hubmerge.build_plan(pleas(**changes))
    return [str(fault) for fault in refused.value.faults]


def test_a_plan_says_how_many_layers_of_which_stage_are_paired() -> None:
    plan = planned("./low", "./deep")
    assert plan.depths == (StageDepths(STAGE, (1, 2), (1,)),)
    assert plan.tensor_count == len(plan.tensors[0]) < len(plan.tensors[1])
    lines = str(plan).splitlines()
    assert lines[6:10] == [
        "layers of                         low  deep  deep paired",
        f"  {STAGE}    1     2            1",
        f"  paired in their order, by how alike (CKA) what they give on the calibration data is; {LEFT}",
        "",
    ]
    assert plan.to_dict()["depths"] == [{"stage": STAGE, "layers": [1, 2], "paired": [1]}]
    assert planned("./low", "./high").depths == ()
    assert (
        plan.peak_memory == planned("./low", "./high").peak_memory
    )  # what is stored in float32 is mapped from its file


def test_without_data_a_plan_says_that_layers_are_spread_evenly() -> None:
    plan = planned("./low", "./deep", align="identity", fit="none", calibration=None)
    assert "  paired in their order, evenly spread, since there is no data; the base's others" in str(plan)


def test_sizes_of_a_wider_merge_are_planned_as_they_become() -> None:
    recipe = pleas("./deep", "./wide", align={"widths": "union", "ratio": 1.0}, fit="none")
    plan = hubmerge.build_plan(recipe)
    assert isinstance(plan, AssemblyPlan)
    hubmerge.merge(recipe, "wider")
    record = hubmerge.read_manifest(Path("wider")).assembly
    assert record is not None
    assert {group.name: group.merged for group in plan.groups} == {n: g.merged for n, g in record.groups.items()}
    assert plan.cost.parameters == record.cost.parameters
    assert record.groups["mid1.1"].sizes == (6, 0)
    config = json.loads(Path("wider/config.json").read_text())
    assert (config["hidden_sizes"], config["depths"]) == ([10, 15], [1, 2])


def test_a_merge_across_depths_is_recorded_and_verified() -> None:
    hubmerge.merge(pleas("./deep", "./low"), "both")
    record = hubmerge.read_manifest(Path("both")).assembly
    assert record is not None
    (depth,) = record.depths
    assert depth is not None
    assert [(layer.layer, layer.partner) for layer in depth.layers] == [
        ("resnet.encoder.stages.0.layers.0", "resnet.encoder.stages.0.layers.0"),
        (f"{STAGE}.0", f"{STAGE}.0"),
        (f"{STAGE}.1", None),
    ]
    assert [layer.cka is None for layer in depth.layers] == [True, False, True]
    assert depth.left_out == ()
    assert verify_merge("both", reload=False).level == "exact"
    hubmerge.merge(pleas("./low", "./deep"), "other")
    other = hubmerge.read_manifest(Path("other")).assembly
    assert other is not None
    assert [each.left_out for each in other.depths if each is not None] == [(f"{STAGE}.1",)]
    assert load_file("other/model.safetensors").keys() == load_file("low/model.safetensors").keys()


def test_models_without_a_layer_of_the_same_kind_are_refused_when_it_is_planned(tmp_path: Path) -> None:
    for name, changes in (("plain", {}), ("biased", {"num_hidden_layers": 2, "qkv_bias": False})):
        vit(tmp_path / name, 0, ("a", "b"), **changes)
    with pytest.raises(HubmergeError) as refused:
        hubmerge.build_plan(pleas(f"{tmp_path}/plain", f"{tmp_path}/biased", labels="shared"))
    assert str(refused.value) == (
        f"no layer of 'vit.encoder.layer' has the same tensors in {tmp_path}/plain and in {tmp_path}/biased · models · "
        "merge models whose layers are built alike"
    )


def test_regmean_is_planned_merged_recorded_and_verified() -> None:
    recipe = pleas("./low", "./wide", fit={"method": "regmean", "non_diagonal": 0.5})
    told = next(line for line in str(hubmerge.build_plan(recipe)).splitlines() if line.startswith("fitted"))
    assert told == (
        "fitted       every layer by RegMean, on each model's own inputs, on every sample those of the models that are sure of it, "
        "non_diagonal 0.5, each with the ridge that predicts best"
    )
    hubmerge.merge(recipe, "regmean")
    record = hubmerge.read_manifest(Path("regmean")).assembly
    assert record is not None
    assert (record.fit, record.inputs, record.follow, record.non_diagonal) == ("regmean", None, "confident", 0.5)
    assert verify_merge("regmean", reload=False).level == "exact"


def test_keys_that_mean_nothing_to_the_way_of_fitting_are_refused() -> None:
    assert faults(fit={"method": "regmean", "inputs": "parents"}) == [
        "inputs is of no use to regmean · recipe: fit.inputs · remove it, or write method: least_squares"
    ]
    assert faults(fit={"non_diagonal": 0.5}) == [
        "non_diagonal is of no use to least_squares · recipe: fit.non_diagonal · write method: regmean beside it"
    ]
    assert faults(fit={"method": "none", "non_diagonal": 0.5}, align="weights") == [
        "non_diagonal is of no use where nothing is fitted · recipe: fit.non_diagonal · remove it"
    ]
    assert faults(fit="regmean", align="weights", calibration=None) == [
        f"pleas fits layers to what the parents compute, which needs data · recipe: calibration · {NEEDS}"
    ]
