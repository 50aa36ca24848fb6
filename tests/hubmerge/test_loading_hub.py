"""AutoMergedModel on models of the Hub: what is fetched, which revision, whose token, whose code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hub.fixtures import hub, hub_home, start_hub
from hub.server import HubServer
from transformers import LlamaConfig, LlamaForCausalLM

from hubmerge import AutoMergedModel, PlanError
from zoo_index.errors import HubError

__all__ = ["hub", "hub_home", "start_hub"]

SIZES: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}


def llama(seed: int) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    return LlamaForCausalLM(LlamaConfig(**SIZES, vocab_size=20, num_key_value_heads=2))


@pytest.fixture
def folder(tmp_path: Path, hub: HubServer) -> Path:
    """A model here and as ada/model there, with files that loading does not need."""
    folder = tmp_path / "model"
    llama(0).save_pretrained(folder)
    (folder / "pytorch_model.bin").write_bytes(b"pickled")
    (folder / "README.md").write_text("# A model\n")
    (folder / "modeling_own.py").write_text("raise RuntimeError('this code ran')\n")
    hub.add("ada/model", folder)
    hub.log.clear()
    return folder


def same(one: Any, other: Any) -> bool:
    return all(torch.equal(values, other.state_dict()[name]) for name, values in one.state_dict().items())


def test_a_dense_model_is_fetched_and_nothing_beside_it(folder: Path, hub: HubServer) -> None:
    loaded = AutoMergedModel.from_pretrained("ada/model")
    assert same(loaded, llama(0))
    assert not loaded.training
    fetched = {record.file for record in hub.log.requests(method="GET") if record.file}
    assert fetched == {"config.json", "generation_config.json", "model.safetensors"}
    assert hub.log.weight_bytes_sent() == sum(v.numel() * 4 for v in llama(0).state_dict().values())

    hub.log.clear()
    AutoMergedModel.from_pretrained("ada/model")
    assert [record.method + " " + record.path for record in hub.log.requests()] == ["GET /api/models/ada/model"]


def test_the_revision_is_honoured(folder: Path, hub: HubServer, tmp_path: Path) -> None:
    first = hub.repository("ada/model").head.id
    llama(1).save_pretrained(tmp_path / "later")
    hub.commit("ada/model", tmp_path / "later")
    assert same(AutoMergedModel.from_pretrained("ada/model", revision=first), llama(0))
    assert same(AutoMergedModel.from_pretrained(f"ada/model@{first}"), llama(0))
    assert same(AutoMergedModel.from_pretrained("ada/model"), llama(1))


def test_dtype_and_device_map_are_those_of_transformers(folder: Path) -> None:
    loaded = AutoMergedModel.from_pretrained("ada/model", dtype=torch.bfloat16, device_map="cpu")
    assert {values.dtype for values in loaded.parameters()} == {torch.bfloat16}


def test_a_private_model_needs_a_token_and_takes_the_one_given(folder: Path, hub: HubServer) -> None:
    hub.edit("ada/model", private=True)
    with pytest.raises(HubError) as refused:
        AutoMergedModel.from_pretrained("ada/model")
    assert str(refused.value) == (
        "there is no such model on the Hub, or it is private · ada/model · "
        "check the spelling; for a private one log in with `hf auth login` or set HF_TOKEN"
    )
    assert same(AutoMergedModel.from_pretrained("ada/model", token=hub.token), llama(0))
    assert hub.log.tokens_abroad() == ()


def test_the_parents_of_a_recipe_are_fetched_with_the_token_given(folder: Path, hub: HubServer) -> None:
    hub.edit("ada/model", private=True)
    recipe = {"merge_method": "passthrough", "models": [{"model": "ada/model"}]}
    with pytest.raises(HubError, match="or it is private"):
        AutoMergedModel.from_pretrained(recipe)
    assert same(AutoMergedModel.from_pretrained(recipe, token=hub.token), llama(0))
    with pytest.raises(HubError, match="or it is private"):  # the token was for that call alone
        AutoMergedModel.from_pretrained({**recipe, "name": "again"})


def test_code_that_comes_with_a_model_is_neither_fetched_nor_run(folder: Path, hub: HubServer) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoModelForCausalLM": "modeling_own.Own"}
    hub.commit("ada/model", {"config.json": json.dumps(config)})
    assert same(AutoMergedModel.from_pretrained("ada/model"), llama(0))
    assert not any(record.file == "modeling_own.py" for record in hub.log.requests())


def test_code_that_comes_with_a_model_runs_when_it_is_trusted(
    folder: Path, hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoModelForCausalLM": "modeling_own.Own"}
    hub.commit("ada/model", {"config.json": json.dumps(config)})
    with pytest.raises(RuntimeError, match="this code ran"):
        AutoMergedModel.from_pretrained("ada/model", trust_remote_code=True)


def test_a_model_without_safetensors_is_refused(folder: Path, hub: HubServer) -> None:
    hub.commit("ada/model", {"model.safetensors": None})
    commit = hub.repository("ada/model").head.id
    with pytest.raises(PlanError) as refused:
        AutoMergedModel.from_pretrained("ada/model")
    assert str(refused.value) == f"no safetensors weights · ada/model@{commit} · choose a model that has them"


def test_a_repository_that_is_no_model_is_refused(hub: HubServer) -> None:
    hub.add("ada/notes", {"notes.md": "words"})
    commit = hub.repository("ada/notes").head.id
    with pytest.raises(PlanError) as refused:
        AutoMergedModel.from_pretrained("ada/notes")
    assert str(refused.value) == (
        f"no readable config.json, so this is not a model folder · ada/notes@{commit} · name the OUT of a merge, or a recipe file"
    )


def test_a_token_can_be_true_or_false_as_in_transformers(
    folder: Path, hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.edit("ada/model", private=True)
    monkeypatch.setenv("HF_TOKEN", hub.token)
    assert same(AutoMergedModel.from_pretrained("ada/model", token=True), llama(0))
    with pytest.raises(HubError, match="or it is private"):
        AutoMergedModel.from_pretrained("ada/model", token=False)
