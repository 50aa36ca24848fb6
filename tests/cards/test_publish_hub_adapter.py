"""A merge that is an adapter: its card keeps the lineage that PEFT's own upload loses, and it loads on its base."""

from __future__ import annotations

import hashlib
import json

import pytest
import torch
import yaml
from hub_merges import llama, upload_parents
from peft import LoraConfig, PeftModel, get_peft_model

from cards import PublishError, publish, write_card
from hubmerge import AutoMergedModel
from hubmerge.errors import PlanError
from hubmerge.manifest import FileDigest, Manifest, ParentRecord


def adapter_merge(out, base, commit=None):
    """An adapter of `base` with weights that do something, as if two adapters had been merged into it."""
    torch.manual_seed(1)
    config = LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=["q_proj", "v_proj"], base_model_name_or_path=base)
    model = get_peft_model(llama(0), config)
    with torch.no_grad():
        for name, values in model.named_parameters():
            if "lora_B" in name:
                values.normal_()
    model.peft_config["default"].base_model_name_or_path = base
    model.peft_config["default"].revision = commit
    model.save_pretrained(out)
    (out / "README.md").unlink()
    record = {"role": "parent", "commit": commit, "headers": {}, "sample": "5a" * 32}
    manifest = Manifest(
        hubmerge_version="0.1.0",
        plan_hash="a" * 64,
        recipe={
            "merge_method": "linear",
            "models": [{"model": "acme/base+acme/lora-a"}, {"model": "acme/base+acme/lora-b"}],
        },
        method="linear",
        method_revision=1,
        parents=tuple(
            ParentRecord(reference="acme/base", adapter=f"acme/lora-{name}", adapter_commit="b" * 40, **record)
            for name in "ab"
        ),
        config_donor="acme/base",
        dtype="float32",
        parameters=256,
        tensors={"merged": 8},
        files={
            path.name: FileDigest(size=path.stat().st_size, sha256=hashlib.sha256(path.read_bytes()).hexdigest())
            for path in sorted(out.iterdir())
        },
    )
    (out / "hubmerge.json").write_text(manifest.to_json())
    write_card(out)
    return out


@pytest.fixture
def adapter(ada, tmp_path):
    upload_parents(ada, tmp_path)
    return adapter_merge(tmp_path / "lora", "acme/base", ada.repository("acme/base").head.id)


def _front(ada):
    return yaml.safe_load(ada.content("ada/lora", "README.md").decode().split("---\n")[1])


def test_its_card_keeps_the_lineage(ada, adapter):
    plan = publish(adapter, "ada/lora", as_="adapter")
    front = _front(ada)
    assert plan.kind == "adapter"
    assert front["base_model"] == ["acme/base"]
    assert front["base_model_relation"] == "adapter"
    assert front["library_name"] == "peft"
    assert front["tags"] == ["merge", "hubmerge", "linear", "lora", "base_model:adapter:acme/base"]
    assert front["pipeline_tag"] == "text-generation"
    card = ada.content("ada/lora", "README.md").decode()
    assert "\nlora is an adapter (LORA) for a language model (256 parameters, float32)." in card
    assert "lora-a" in card
    assert "lora-b" in card


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
    out = adapter_merge(tmp_path / "lora", str(tmp_path / "parents" / "base"))
    with pytest.raises(PublishError) as caught:
        publish(out, "ada/lora")
    assert "the adapter's base model is a folder, which nobody else has" in str(caught.value)
    assert ("models", "ada/lora") not in ada.state.repositories


def test_an_adapter_without_a_base_is_refused(adapter):
    path = adapter / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"base_model_name_or_path": None}))
    with pytest.raises(PlanError, match="the adapter does not name its base model"):
        AutoMergedModel.from_pretrained(adapter)
