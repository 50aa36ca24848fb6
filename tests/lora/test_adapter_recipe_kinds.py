"""Recipes that merge adapters with whole tensors, biases of factors, starts that moved the base, and other bases."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lora_models import loaded, saved_adapter
from safetensors.numpy import load_file
from zoo import read_model, write_adapter, write_model

import hubmerge
from hubmerge.errors import VerifyError
from hubmerge.lora.derivation import derive_again
from hubmerge.manifest import read_manifest
from hubmerge.verify import verify_merge

A, B = np.array([[1, 2]], "float32"), np.array([[1], [0]], "float32")
PREFIX = "base_model.model."
SUM = {
    "merge_method": "task_arithmetic",
    "models": [{"model": "./one", "parameters": {"weight": 0.5}}, {"model": "./two"}],
    "output": {"kind": "adapter"},
}
DENSE = {**SUM, "basis": "core", "output": {"kind": "dense"}, "base_model": "./base"}


def write(name: str, head: list[float], **config: Any) -> Path:
    own = {
        "q.lora_A.weight": A,
        "q.lora_B.weight": B,
        "q.lora_B.bias": np.array([1, 2], "float32"),
        "q.base_layer.bias": np.array(head[:2], "float32"),
        "head.weight": np.array(head, "float32"),
    }
    said = {"r": 1, "lora_alpha": 2, "lora_bias": True, "bias": "lora_only", "modules_to_save": ["head"]}
    return write_adapter(Path(name), own, **{**said, "base_model_name_or_path": "./base", **config})


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Adapters of scale 2 with the biases (1, 2) of their factors, and heads and biases of their own; the base's are all 1."""
    monkeypatch.chdir(tmp_path)
    write("one", [1, 5, 1])
    write("two", [3, 1, 2])
    base = {"q.weight": np.eye(2), "q.bias": np.ones(2), "head.weight": np.ones(3), "norm.weight": np.ones(2)}
    write_model(
        tmp_path / "base",
        {name: values.astype("float32") for name, values in base.items()},
        config={"model_type": "toy"},
    )
    return tmp_path


def test_a_model_has_everything_that_was_merged(here: Path) -> None:
    """Of weights .5 and 1: of heads (0, 4, 0) / 2 + (2, 0, 1); of biases (0, 4) / 2 + (2, 0) and 1.5 x 2 x (1, 2)."""
    hubmerge.merge(DENSE, here / "out")
    model = read_model(here / "out")
    assert model["head.weight"].tolist() == [3, 3, 2]
    assert model["q.bias"].tolist() == [1 + 2 + 3, 1 + 2 + 6]
    np.testing.assert_allclose(model["q.weight"], np.eye(2) + 3 * B @ A, rtol=1e-6)
    assert model["norm.weight"].tolist() == [1, 1]
    manifest = read_manifest(here / "out")
    assert manifest.tensors == {"merged": 3, "kept": 1}
    assert manifest.adapters is not None
    assert manifest.adapters.differs == (
        "2 whole tensors ('head.weight' the first): what training changed of the base's is merged by task_arithmetic, apart from the factors",
        "biases of B in 1 module are merged by task_arithmetic as the changes that they are",
    )
    assert verify_merge(here / "out", reload=False).passed


def test_an_adapter_has_the_mean_of_copies_or_with_the_base_their_changes(here: Path) -> None:
    hubmerge.merge(SUM, here / "mean")
    hubmerge.merge({**SUM, "base_model": "./base"}, here / "sum")
    for out, head, bias in (("mean", [7 / 3, 7 / 3, 5 / 3], [7 / 3, 7 / 3]), ("sum", [3, 3, 2], [3, 3])):
        tensors = load_file(here / out / "adapter_model.safetensors")
        np.testing.assert_allclose(tensors[f"{PREFIX}head.weight"], head, rtol=1e-6)
        np.testing.assert_allclose(tensors[f"{PREFIX}q.base_layer.bias"], bias, rtol=1e-6)
        assert tensors[f"{PREFIX}q.lora_B.bias"].tolist() == [3, 6]
        config = json.loads((here / out / "adapter_config.json").read_text())
        assert (config["modules_to_save"], config["bias"], config["lora_bias"]) == (["head"], "lora_only", True)
        assert verify_merge(here / out, reload=False).passed
    parents = {out: [parent.role for parent in read_manifest(here / out).parents] for out in ("mean", "sum")}
    assert parents == {"mean": ["parent", "parent"], "sum": ["base", "parent", "parent"]}


def test_a_plan_tells_of_them_and_reads_no_numbers(here: Path) -> None:
    plan = hubmerge.build_plan({**SUM, "base_model": "./base"})
    assert plan.wholes.copies == {"head.weight": (3,), "q.bias": (2,)}
    assert plan.bytes_read == 2 * 4 * (2 + 2 + 2 + 2 + 3) + 4 * (3 + 2)
    assert "the mean of the copies, by weight" in str(hubmerge.build_plan(SUM))


def test_a_head_that_was_changed_afterwards_is_found(here: Path) -> None:
    hubmerge.merge(SUM, here / "out")
    path = here / "out" / "adapter_model.safetensors"
    raw = path.read_bytes()
    head = load_file(path)[f"{PREFIX}head.weight"].tobytes()
    path.write_bytes(raw.replace(head, np.full(3, 9, "float32").tobytes()))
    with pytest.raises(VerifyError, match=r"'head.weight' differs by .* from what its adapters give"):
        derive_again(hubmerge.build_plan(SUM), here / "out")


def test_other_bases_are_merged_where_the_recipe_says_so(here: Path) -> None:
    write("two", [3, 1, 2], base_model_name_or_path="org/other")
    told = "the adapters were trained on different models (./one on ./base, ./two on org/other)"
    with pytest.raises(hubmerge.PlanError) as refused:
        hubmerge.build_plan(SUM)
    assert str(refused.value) == (
        f"{told} · models · other_bases merges them all the same, or each with its own base by models named base+adapter"
    )
    hubmerge.merge({**SUM, "other_bases": True}, here / "out")
    assert read_manifest(here / "out").warnings == (f"{told}; the merge says that it is of the first's",)
    assert json.loads((here / "out" / "adapter_config.json").read_text())["base_model_name_or_path"] == "./base"
    with pytest.raises(hubmerge.RecipeError, match="other_bases is of adapters that are merged as adapters"):
        hubmerge.build_plan({"merge_method": "linear", "models": [{"model": "./base"}], "other_bases": True})


@pytest.mark.filterwarnings("ignore")
def test_starts_of_pissa_are_found_again(here: Path) -> None:
    import torch
    from lora_models import llama
    from peft import PeftModel

    llama().save_pretrained(here / "llama")
    folder = saved_adapter(here / "llama", here / "pissa", 1, init_lora_weights="pissa")
    recipe = {"merge_method": "cat", "models": [{"model": str(folder)}], "output": {"kind": "adapter"}}
    plan = hubmerge.build_plan(recipe)
    assert plan.differs == (
        f"the start of {folder} (pissa), which had moved the base, is found again in it and taken off",
    )
    hubmerge.merge(recipe, here / "out")
    assert verify_merge(here / "out", reload=False).passed
    both = [PeftModel.from_pretrained(loaded(here / "llama"), adapter).eval() for adapter in (folder, here / "out")]
    with torch.no_grad():
        left, right = (model(torch.arange(20)[None]).logits for model in both)
    torch.testing.assert_close(left, right, atol=1e-4, rtol=1e-4)
    hidden = write_adapter(
        here / "hidden", {"q.lora_A.weight": A, "q.lora_B.weight": B}, r=1, init_lora_weights="pissa_niter_2"
    )
    with pytest.raises(hubmerge.PlanError, match="the adapter was initialised by pissa_niter_2"):
        hubmerge.build_plan({**recipe, "models": [{"model": str(hidden)}]})
