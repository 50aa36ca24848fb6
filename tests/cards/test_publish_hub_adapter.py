"""A merge that is an adapter: its card keeps the lineage that PEFT's own upload loses, and it loads on its base."""

from __future__ import annotations

import json

import pytest
import torch
import yaml
from hub_merges import llama, upload_parents
from peft import LoraConfig, PeftModel, get_peft_model

from cards import PublishError, publish, write_card
from hubmerge import AutoMergedModel, merge
from hubmerge.errors import PlanError
from hubmerge.manifest import read_manifest
from hubmerge.verify import verify_merge


def adapter_merge(hub, place, base, commit=None):
    """Two adapters of `base`, acme/lora-a and acme/lora-b, with weights that do something, merged into one, with its card."""
    for seed, name in ((1, "lora-a"), (2, "lora-b")):
        base_model = llama(0)
        torch.manual_seed(seed)
        config = LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=["q_proj", "v_proj"])
        model = get_peft_model(base_model, config)
        with torch.no_grad():
            for parameter, values in model.named_parameters():
                if "lora_B" in parameter:
                    values.normal_()
        model.peft_config["default"].base_model_name_or_path = base
        model.peft_config["default"].revision = commit
        model.save_pretrained(place / "adapters" / name)
        (place / "adapters" / name / "README.md").write_text("---\nlicense: mit\n---\n# An adapter\n")
        hub.add(f"acme/{name}", place / "adapters" / name)
    models = [{"model": "acme/lora-a"}, {"model": "acme/lora-b", "parameters": {"weight": 0.5}}]
    merge({"merge_method": "task_arithmetic", "models": models, "output": {"kind": "adapter"}}, place / "lora")
    write_card(place / "lora")
    return place / "lora"


@pytest.fixture
def adapter(ada, tmp_path):
    upload_parents(ada, tmp_path)
    return adapter_merge(ada, tmp_path, "acme/base", ada.repository("acme/base").head.id)


def _front(ada):
    return yaml.safe_load(ada.content("ada/lora", "README.md").decode().split("---\n")[1])


def test_its_card_keeps_the_lineage(ada, adapter):
    plan = publish(adapter, "ada/lora", as_="adapter")
    front = _front(ada)
    assert plan.kind == "adapter"
    assert front["base_model"] == ["acme/base"]
    assert front["base_model_relation"] == "adapter"
    assert front["library_name"] == "peft"
    assert front["tags"] == ["merge", "hubmerge", "task_arithmetic", "lora", "base_model:adapter:acme/base"]
    assert front["pipeline_tag"] == "text-generation"
    card = ada.content("ada/lora", "README.md").decode()
    assert "\nlora is a LoRA adapter for a language model (512 parameters, float32)." in card
    assert "lora-a" in card
    assert "lora-b" in card


def test_its_parents_are_pinned_and_it_is_derived_again(ada, adapter):
    publish(adapter, "ada/lora")
    commits = [ada.repository(f"acme/lora-{name}").head.id for name in "ab"]
    assert [parent.commit for parent in read_manifest(adapter).parents] == commits
    checks = verify_merge(adapter).checks
    assert [(check.name, check.passed) for check in checks] == [("files", True), ("derivation", True), ("reload", None)]
    assert checks[2].detail == "not tried: its base model acme/base is not on this disk"


def test_only_the_adapter_is_sent(ada, adapter):
    publish(adapter, "ada/lora")
    assert sorted(ada.repository("ada/lora").head.tree) == [
        ".gitattributes",
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
        "hubmerge.json",
    ]


def test_it_loads_as_its_base_with_the_adapter_on_it(ada, adapter):
    publish(adapter, "ada/lora")
    loaded = AutoMergedModel.from_pretrained("ada/lora")
    expected = PeftModel.from_pretrained(llama(0), str(adapter)).eval()
    tokens = torch.arange(10)[None]
    assert type(loaded).__name__ == "LlamaForCausalLM"
    assert loaded.active_adapters() == ["default"]
    assert not loaded.training
    with torch.no_grad():
        got, wanted, bare = (model(tokens).logits for model in (loaded, expected, llama(0).eval()))
    assert torch.allclose(got, wanted, atol=1e-6)
    assert not torch.allclose(got, bare, atol=1e-3)


def test_the_base_is_taken_at_the_commit_that_the_adapter_names(ada, adapter, tmp_path):
    publish(adapter, "ada/lora")
    llama(7).save_pretrained(tmp_path / "other")
    ada.commit("acme/base", tmp_path / "other")
    loaded = AutoMergedModel.from_pretrained("ada/lora")
    assert torch.equal(loaded.lm_head.weight, llama(0).lm_head.weight)


def test_an_adapter_is_not_published_as_a_model(ada, adapter):
    with pytest.raises(PublishError) as caught:
        publish(adapter, "ada/lora", as_="dense")
    assert str(caught.value) == f"this merge is an adapter · {adapter} · publish it with --as adapter"


def test_the_base_of_an_adapter_must_be_where_others_can_take_it(ada, tmp_path):
    upload_parents(ada, tmp_path)
    out = adapter_merge(ada, tmp_path, str(tmp_path / "parents" / "base"))
    with pytest.raises(PublishError) as caught:
        publish(out, "ada/lora")
    assert "the adapter's base model is a folder, which nobody else has" in str(caught.value)
    assert ("models", "ada/lora") not in ada.state.repositories


def test_an_adapter_without_a_base_is_refused(adapter):
    path = adapter / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"base_model_name_or_path": None}))
    with pytest.raises(PlanError, match="the adapter does not name its base model"):
        AutoMergedModel.from_pretrained(adapter)
