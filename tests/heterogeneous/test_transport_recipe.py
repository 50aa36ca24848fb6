"""`merge_method: transport`: recipe, plan, merge, manifest, and what is refused before any weight is read."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from pleas_models import images, resnet
from safetensors.torch import load_file, save_file

import hubmerge
from cards.assembly_words import assembly_words
from hubmerge.assembly_words import how_far
from hubmerge.errors import HubmergeError
from hubmerge.heterogeneous.plan_types import AssemblyPlan

WEIGHTS = "model.safetensors"


def trained(base: Path, folder: Path, size: float = 0.1) -> None:
    """A copy of a model with a random change of every matrix and kernel."""
    shutil.copytree(base, folder)
    random = torch.Generator().manual_seed(9)
    changed = {
        name: values + size * torch.randn(values.shape, generator=random) if values.dim() > 1 else values
        for name, values in load_file(base / WEIGHTS).items()
    }
    save_file(changed, folder / WEIGHTS, {"format": "pt"})


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """target and other of one width, wide half as wide again; learned and wide-learned are trained from the last two."""
    place = tmp_path_factory.mktemp("transport")
    labels = ("a", "b", "c")
    resnet(place / "target", 0, labels)
    resnet(place / "other", 1, labels)
    resnet(place / "wide", 2, labels, (6, 9))
    trained(place / "other", place / "learned")
    trained(place / "wide", place / "wide-learned")
    images(place)
    return place


@pytest.fixture(autouse=True)
def here(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(models)


def recipe(**changes: Any) -> dict[str, Any]:
    given = {
        "merge_method": "transport",
        "base_model": "./target",
        "models": [{"model": "./learned", "base": "./other", "parameters": {"weight": 0.5}}],
        "calibration": {"data": "./images.npz", "samples": 8},
        **changes,
    }
    return {key: value for key, value in given.items() if value is not None}


def refusal(**changes: Any) -> list[str]:
    with pytest.raises(HubmergeError) as refused:
        hubmerge.build_plan(recipe(**changes))
    return [str(fault) for fault in refused.value.faults]


def test_the_plan_says_what_is_added_to_what() -> None:
    plan = hubmerge.build_plan(recipe(models=[{"model": "./wide-learned", "base": "./wide"}]))
    assert isinstance(plan, AssemblyPlan)
    lines = str(plan).splitlines()
    assert lines[2:6] == [
        "parents",
        "  ./target  (the target: what is carried is added to it)  embedding_size 4, hidden_sizes 4 6",
        "  ./wide-learned  (learned on top of ./wide)  embedding_size 6, hidden_sizes 6 9",
        "  ./wide  (a model's own base)  embedding_size 6, hidden_sizes 6 9",
    ]
    assert "units of    target  wide-learned  wide  merged  apart  left out" in lines
    assert (
        "  res1           4             6     6       4      0         2" in lines
    )  # once, though its base has them too
    assert (
        "carried      what each model learned on top of its own base; units that the target has not are left out"
        in lines
    )
    assert [parent.role for parent in plan.parents] == ["parent", "base", "base"]
    assert json.loads(json.dumps(plan.to_dict()))["stages"]["bases"] == ["./wide"]


def test_a_merge_is_the_target_and_what_was_carried_and_says_how_much_that_is(models: Path, tmp_path: Path) -> None:
    manifest = hubmerge.merge(recipe(models=[{"model": "./wide-learned", "base": "./wide"}]), tmp_path / "out")
    target, merged = load_file(models / "target" / WEIGHTS), load_file(tmp_path / "out" / WEIGHTS)
    assert {name: values.shape for name, values in merged.items()} == {n: v.shape for n, v in target.items()}
    assert not torch.equal(merged["classifier.1.weight"], target["classifier.1.weight"])
    record = manifest.assembly
    assert record is not None
    assert record.transport is not None
    assert (record.order, record.weights) == (("./target", "./wide-learned"), (1.0, 1.0))
    carried = record.transport[0]
    assert carried.base == "./wide"
    assert 0.3 < carried.share < 1
    assert record.groups["mid1.0"].sizes == (6, 9)
    assert "classifier.1.weight" in carried.tensors
    assert how_far(record)[-1] == (
        f"./wide-learned: {carried.share:.1%} of the norm of what it learned on top of ./wide was carried"
    )
    words = assembly_words(record)
    assert words is not None
    assert words.matching.startswith(
        "This is target and, added to it, what wide-learned learned on top of wide (1 times)."
    )
    assert any(f"{carried.share:.1%} of the norm was carried" in remark for remark in words.remarks)
    assert manifest.warnings == ()


def test_weight_0_writes_the_target_and_a_base_that_is_the_target_is_task_arithmetic(
    models: Path, tmp_path: Path
) -> None:
    hubmerge.merge(
        recipe(models=[{"model": "./learned", "base": "./other", "parameters": {"weight": 0}}]), tmp_path / "0"
    )
    target, none = load_file(models / "target" / WEIGHTS), load_file(tmp_path / "0" / WEIGHTS)
    assert all(torch.equal(values, none[name]) for name, values in target.items())
    hubmerge.merge(recipe(base_model="./other", align="weights", calibration=None), tmp_path / "own")
    ordinary = {"merge_method": "task_arithmetic", "base_model": "./other"}
    hubmerge.merge({**ordinary, "models": [{"model": "./learned", "parameters": {"weight": 0.5}}]}, tmp_path / "task")
    ours, theirs = (load_file(tmp_path / name / WEIGHTS) for name in ("own", "task"))
    for name, values in ours.items():
        torch.testing.assert_close(values, theirs[name], rtol=1e-6, atol=1e-7)


def test_a_merge_that_carries_nothing_warns(tmp_path: Path) -> None:
    manifest = hubmerge.merge(recipe(align={"min_similarity": 1.0}), tmp_path / "out")
    assert manifest.assembly is not None
    assert manifest.assembly.transport is not None
    share = manifest.assembly.transport[0].share
    warning = (
        f"of what ./learned learned on top of ./other, {share:.1%} of the norm was carried: the merge is its base model and "
        "hardly anything else"
    )
    assert manifest.warnings == (warning,)
    assert how_far(manifest.assembly)[-1] == f"warning: {warning}"


def test_a_recipe_without_target_or_bases_and_with_keys_of_other_methods_is_refused() -> None:
    assert refusal(base_model=None, models=[{"model": "./learned"}]) == [
        "transport adds to a base model, and none is named · recipe: base_model · add base_model: the model that is added to",
        (
            "what ./learned learned is its difference from its own base, and none is named · recipe: models[0].base · "
            "add base: beside it, the model that it was trained from"
        ),
    ]
    assert refusal(models=[{"model": "./target", "base": "./target"}]) == [
        "./target is named as its own base · recipe: models[0].base · name the model that it was trained from",
        (
            "base_model ./target is among the models, and it is what is added to · recipe: models[0].model · "
            "remove it from models"
        ),
    ]
    assert refusal(fit="none", align={"widths": "union"}, labels="disjoint") == [
        "transport keeps the widths of base_model · recipe: align.widths · remove it",
        "transport fits no layers · recipe: fit · remove it, or write merge_method: pleas",
        (
            "transport takes labels: shared and no others · recipe: labels · "
            "remove it: the labels are the target's, and the models have the same ones"
        ),
    ]
    assert refusal(calibration=None) == [
        (
            "transport matches units by their activations, which needs data · recipe: calibration · "
            "add calibration: with a dataset, a file or a folder; align: weights needs none"
        )
    ]
    for method in ("pleas", "task_arithmetic"):
        assert refusal(merge_method=method, calibration=None, fit=None)[0] == (
            f"a base beside a model is for merge_method: transport, not for {method} · recipe: models[0].base · "
            "remove it; one base of all models is base_model"
        )


def test_a_base_that_the_model_was_not_trained_from_is_refused() -> None:
    assert refusal(models=[{"model": "./learned", "base": "./wide"}]) == [
        (
            "tensor 'classifier.1.weight' is [3, 9] in ./wide and [3, 6] in ./learned · models · "
            "name the model that it was trained from"
        )
    ]
