"""Recipes that merge adapters into an adapter, or into a model with their base."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from adapter_folders import read_lora, write_base, write_lora
from lora_models import dense, factors, furthest
from safetensors.numpy import load_file, save_file

import hubmerge
from hubmerge.assemble import merge_plan
from hubmerge.errors import MergeInterrupted, VerifyError
from hubmerge.lora import execute
from hubmerge.lora.derivation import derive_again
from hubmerge.manifest import read_manifest
from hubmerge.verify import verify_merge

MODELS = [{"model": "./a", "parameters": {"weight": 0.5}}, {"model": "./b"}]
SUM = {"merge_method": "task_arithmetic", "models": MODELS, "output": {"kind": "adapter"}}
KNOTS = {
    "merge_method": "ties",
    "basis": "knots",
    "models": MODELS,
    "parameters": {"density": 0.5, "trim_scope": "model"},
}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Adapters a and b of ranks 2 and 3 on modules up, down and q, b with all numbers doubled by its alpha; and a base."""
    monkeypatch.chdir(tmp_path)
    write_lora(tmp_path / "a", factors(0, 2))
    write_lora(tmp_path / "b", factors(1, 3), lora_alpha=6)
    drawn = np.random.default_rng(9)
    shapes = {"up": (12, 8), "down": (8, 12), "q": (8, 8)}
    write_base(
        tmp_path / "base",
        {f"{name}.weight": drawn.normal(size=shape) for name, shape in shapes.items()} | {"norm.weight": np.ones(8)},
    )
    return tmp_path


def summed() -> dict[str, np.ndarray]:
    first, second = dense(factors(0, 2)), dense(factors(1, 3))
    return {name: 0.5 * first[name] + 2 * second[name] for name in first}


def test_a_recipe_gives_the_factors_that_merge_adapters_gives(here: Path) -> None:
    manifest = hubmerge.merge({**KNOTS, "output": {"kind": "adapter", "rank": 3}}, here / "out")
    parameters = {"weight": [0.5, 1.0], **KNOTS["parameters"]}
    merged = hubmerge.merge_adapters("ties", ["./a", "./b"], basis="knots", parameters=parameters, rank=3)
    own = read_lora(here / "out")
    assert own.keys() == merged.keys()
    for module, pair in merged.items():
        for left, right in zip(own[module], pair, strict=True):
            np.testing.assert_array_equal(left, right)
    assert manifest.adapters is not None
    assert {name: module.energy for name, module in manifest.adapters.modules.items()} == merged.energy
    assert manifest.adapters.least[1] == min(merged.energy.values()) < 1
    config = json.loads((here / "out" / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["base_model_name_or_path"]) == (3, 3, "org/base")


def test_a_model_is_its_base_and_the_merged_change(here: Path) -> None:
    manifest = hubmerge.merge(
        {**SUM, "basis": "none", "output": {"kind": "dense"}, "base_model": "./base"}, here / "out"
    )
    base, merged = (load_file(here / name / "model.safetensors") for name in ("base", "out"))
    for name, change in summed().items():
        np.testing.assert_allclose(merged[f"{name}.weight"], base[f"{name}.weight"] + change, atol=1e-5)
    np.testing.assert_array_equal(merged["norm.weight"], base["norm.weight"])
    assert manifest.tensors == {"merged": 3, "kept": 1}
    assert [(parent.reference, parent.role) for parent in manifest.parents] == [
        ("./base", "base"),
        ("./a", "parent"),
        ("./b", "parent"),
    ]
    assert not list(here.glob("out/merged-adapter*"))
    checks = verify_merge(here / "out", reload=False).checks
    assert checks[1].detail == "4 tensors derived again from the adapters: the same bytes"


def test_a_combination_of_peft_is_a_method_of_a_recipe(here: Path) -> None:
    hubmerge.merge({**SUM, "merge_method": "cat"}, here / "out")
    own = read_lora(here / "out")
    assert {name: a.shape[0] for name, (a, _) in own.items()} == {"up": 5, "down": 5, "q": 5}
    assert furthest(dense(own), summed()) < 1e-5


def test_one_value_for_some_modules(here: Path) -> None:
    recipe = {**SUM, "parameters": {"lambda": [{"filter": "down", "value": 0.0}, {"value": 1.0}]}}
    hubmerge.merge(recipe, here / "out")
    own, whole = dense(read_lora(here / "out")), summed()
    assert not own["down"].any()
    assert furthest({"up": own["up"]}, {"up": whole["up"]}) < 1e-5


def test_a_merge_that_is_done_is_done(here: Path) -> None:
    plan = hubmerge.build_plan(SUM)
    assert not merge_plan(plan, here / "out").already_done
    assert merge_plan(plan, here / "out").already_done
    with pytest.raises(hubmerge.PlanError, match="out exists and is a merge of another plan"):
        hubmerge.merge({**SUM, "output": {"kind": "adapter", "rank": 2}}, here / "out")
    assert hubmerge.merge({**SUM, "output": {"kind": "adapter", "rank": 2}}, here / "out", overwrite=True).adapters


def test_another_alpha_is_another_plan(here: Path) -> None:
    """The header, which has no alpha, is the same."""
    before = hubmerge.build_plan(SUM).hash
    config = json.loads((here / "b" / "adapter_config.json").read_text())
    (here / "b" / "adapter_config.json").write_text(json.dumps({**config, "lora_alpha": 3}))
    assert hubmerge.build_plan(SUM).hash != before


def test_a_merge_that_was_interrupted_uses_the_adapter_that_was_merged(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = {**SUM, "basis": "core", "output": {"kind": "dense"}, "base_model": "./base"}
    hubmerge.merge(recipe, here / "whole")

    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(execute, "write_weights", interrupted)
        with pytest.raises(MergeInterrupted, match="the same command goes on from there"):
            hubmerge.merge(recipe, here / "out")
    assert not (here / "out").exists()
    notes: list[str] = []
    merge_plan(hubmerge.build_plan(recipe), here / "out", note=notes.append)
    assert notes == ["the adapters were merged before: what came of them is used again"]
    assert (here / "out" / "model.safetensors").read_bytes() == (here / "whole" / "model.safetensors").read_bytes()


def test_an_adapter_that_was_interrupted_leaves_nothing(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(execute, "write_into", interrupted)
    with pytest.raises(MergeInterrupted, match="nothing was left behind"):
        hubmerge.merge(SUM, here / "out")
    assert sorted(path.name for path in here.iterdir()) == ["a", "b", "base"]


def test_factors_that_are_turned_are_the_same_change_and_others_are_not(here: Path) -> None:
    hubmerge.merge(SUM, here / "out")
    plan, weights = hubmerge.build_plan(SUM), here / "out" / "adapter_model.safetensors"
    assert derive_again(plan, here / "out") == (3, 0.0)
    turned = {name: -values for name, values in load_file(weights).items()}
    save_file(turned, weights)
    assert derive_again(plan, here / "out")[1] < 1e-6
    turned["base_model.model.q.lora_A.weight"] = turned["base_model.model.q.lora_A.weight"] * 1.01
    save_file(turned, weights)
    with pytest.raises(VerifyError, match=r"module 'q' differs by 1\.0e-02 from what its adapters give"):
        derive_again(plan, here / "out")


def test_a_plan_says_what_differs_and_what_is_kept(here: Path) -> None:
    write_lora(here / "c", factors(2, 2, ("up", "q")), use_rslora=True)
    plan = hubmerge.build_plan({**SUM, "models": [*MODELS, {"model": "./c"}], "output": {"kind": "adapter", "rank": 4}})
    text = str(plan)
    for line in (
        "  ./b  (adapter of 3 modules, rank 3)",
        "base         org/base",
        "basis        core: between the singular vectors of all B and of all A",
        "modules      3 modules of rank 4 at most; cut from up to 5 to 7 in 3 modules",
        "differs      ranks: 2 in ./a, 3 in ./b, 2 in ./c",
        "differs      scales of B @ A: 1 in ./a, 2 in ./b, 1.41421 in ./c; they are multiplied into B",
        "differs      rsLoRA: no in ./a, no in ./b, yes in ./c; the scales have it in them",
        "differs      1 of 3 modules is left alone by some: that counts as no change there (missing: zero)",
    ):
        assert line in text.splitlines()
    told = plan.to_dict()
    assert told["modules"][0] == {"name": "down", "shape": [8, 12], "ranks": [2, 3, None], "rank": 4, "possible": 5}
    assert hubmerge.merge(plan.recipe, here / "out").parameters == 4 * (20 + 20 + 16)
    left = hubmerge.build_plan({**SUM, "models": [*MODELS, {"model": "./c"}], "missing": "intersect"})
    assert "1 module that not all of them change is left out (missing: intersect)" in left.differs


def test_a_rank_that_the_config_does_not_say_is_warned_of(here: Path) -> None:
    write_lora(here / "c", factors(2, 2), r=8, rank_pattern={"up": 2})
    told = "./c: the factors of 'down' have rank 2, and its config says 8, so that PEFT does not load it; lora_alpha is taken to be over 2"
    recipe = {**SUM, "models": [{"model": "./a"}, {"model": "./c"}]}
    assert hubmerge.build_plan(recipe).warnings == (told,)
    with pytest.raises(hubmerge.PlanError, match="its config says 8"):
        hubmerge.build_plan(recipe, strict=True)
    with pytest.warns(UserWarning, match=re.escape(told)):
        hubmerge.merge_adapters("task_arithmetic", ["./a", "./c"])
    write_lora(here / "d", factors(2, 2), r=8, rank_pattern={"up|q": 2, "down": 2})
    assert hubmerge.build_plan({**SUM, "models": [{"model": "./a"}, {"model": "./d"}]}).warnings == ()


def test_a_parameter_that_a_combination_does_not_read_is_warned_of(here: Path) -> None:
    plan = hubmerge.build_plan({**SUM, "merge_method": "cat", "parameters": {"density": 0.5}})
    assert plan.warnings == ("parameters.density is ignored: cat does not use it",)


def test_factors_that_are_added_up_apart_are_warned_of(here: Path) -> None:
    write_lora(here / "c", factors(2, 2))
    (warning,) = hubmerge.build_plan(
        {**SUM, "merge_method": "linear", "models": [{"model": "./a"}, {"model": "./c"}]}
    ).warnings
    assert warning.startswith("linear works on A and on B apart, as PEFT does")
    with pytest.raises(hubmerge.PlanError, match="which nobody trained"):
        hubmerge.build_plan(
            {**SUM, "merge_method": "linear", "models": [{"model": "./a"}, {"model": "./c"}]}, strict=True
        )


def test_the_record_is_read_again_as_it_was_written(here: Path) -> None:
    manifest = hubmerge.merge({**SUM, "output": {"kind": "adapter", "rank": 2}}, here / "out")
    assert read_manifest(here / "out") == manifest
    assert manifest.format_version == 5
    assert manifest.whole_only == "making it again takes merging its adapters first"
