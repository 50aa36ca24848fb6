"""AutoMergedModel: the ordinary transformers model, from a folder or straight from a recipe, bit for bit the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    AutoModel,
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    LlamaConfig,
    LlamaForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    PreTrainedModel,
    ResNetConfig,
    ResNetForImageClassification,
)
from zoo import recipe, write_adapter

from hubmerge import AutoMergedModel, MergeError, PlanError, RecipeError, merge
from zoo_index import ModelNotFoundError

UPGRADE = "upgrade transformers; models that bring their own code are not run"
WRITE = "write the class that the weights were saved from into config.json, as architectures: a list of one name"
LABELS = 'mend config.json, as in {"0": "cat", "1": "dog"}'
SIZES: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}


def llama(seed: int, **changes: Any) -> PreTrainedModel:
    torch.manual_seed(seed)
    return LlamaForCausalLM(LlamaConfig(**{**SIZES, "vocab_size": 20, "num_key_value_heads": 2, **changes}))


def resnet(seed: int) -> PreTrainedModel:
    torch.manual_seed(seed)
    model = ResNetForImageClassification(
        ResNetConfig(embedding_size=4, hidden_sizes=[4, 8], depths=[1, 1], num_labels=3, layer_type="basic")
    )
    model.train()
    for _ in range(seed + 1):  # so that running statistics and counters differ
        model(pixel_values=torch.randn(2, 3, 32, 32))
    return model


def mixtral(seed: int) -> PreTrainedModel:
    torch.manual_seed(seed)
    heads = {"num_key_value_heads": 2, "num_local_experts": 3, "num_experts_per_tok": 2}
    return MixtralForCausalLM(MixtralConfig(**SIZES, vocab_size=20, **heads))


def bert(seed: int) -> PreTrainedModel:
    torch.manual_seed(seed)
    return BertForSequenceClassification(BertConfig(**SIZES, vocab_size=20, num_labels=3))


def save(place: Path, *models: PreTrainedModel) -> list[Path]:
    folders = [place / f"model{i}" for i in range(len(models))]
    for folder, model in zip(folders, models, strict=True):
        model.save_pretrained(folder)
    return folders


def assert_same(one: PreTrainedModel, other: PreTrainedModel) -> None:
    assert type(one) is type(other)
    first, second = one.state_dict(), other.state_dict()
    assert list(first) == list(second)
    for name, values in first.items():
        assert values.dtype is second[name].dtype, name
        assert torch.equal(values, second[name]), name


def by_method(method: str, folders: list[Path], **rest: Any) -> dict[str, Any]:
    if method in {"linear", "passthrough"}:
        return recipe(method, folders[: 2 - (method == "passthrough")], **rest)
    return recipe(method, folders[1:2], base=folders[0], **({"t": 0.3} if method == "slerp" else {}), **rest)


@pytest.mark.parametrize("method", ["linear", "slerp", "task_arithmetic", "ties", "passthrough", "iso_c"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_recipe_loads_into_what_its_checkpoint_loads_into(tmp_path: Path, method: str, dtype: str) -> None:
    asked = by_method(method, save(tmp_path, llama(1), llama(2)), dtype=dtype)
    merge(asked, tmp_path / "out")
    loaded = AutoMergedModel.from_pretrained(asked)
    assert loaded.dtype is getattr(torch, dtype)
    assert not loaded.training
    assert_same(loaded, LlamaForCausalLM.from_pretrained(tmp_path / "out"))


@pytest.mark.parametrize("make", [resnet, mixtral, bert])
def test_every_architecture_loads_by_the_class_of_its_config(tmp_path: Path, make: Any) -> None:
    first, second = make(1), make(2)
    asked = by_method("linear", save(tmp_path, first, second))
    merge(asked, tmp_path / "out")
    assert_same(AutoMergedModel.from_pretrained(asked), type(first).from_pretrained(tmp_path / "out", dtype="auto"))


def test_the_merged_model_is_the_average_of_its_parents(tmp_path: Path) -> None:
    first, second = llama(1), llama(2)
    loaded = AutoMergedModel.from_pretrained(by_method("linear", save(tmp_path, first, second)))
    for name, values in loaded.state_dict().items():
        assert torch.equal(values, (first.state_dict()[name] + second.state_dict()[name]) / 2)


def test_a_file_a_mapping_and_a_folder_give_the_same_model(tmp_path: Path) -> None:
    asked = by_method("ties", save(tmp_path, llama(1), llama(2)))
    (tmp_path / "recipe.yaml").write_text(json.dumps(asked))
    merge(asked, tmp_path / "out")
    from_mapping = AutoMergedModel.from_pretrained(asked)
    assert_same(from_mapping, AutoMergedModel.from_pretrained(tmp_path / "recipe.yaml"))
    assert_same(from_mapping, AutoMergedModel.from_pretrained(str(tmp_path / "recipe.yaml")))
    assert_same(from_mapping, AutoMergedModel.from_pretrained(tmp_path / "out"))


def test_a_recipe_that_is_not_there_is_missing_here_and_not_looked_for_on_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RecipeError) as caught:
        AutoMergedModel.from_pretrained("recipe.yaml")
    assert str(caught.value) == f"no such recipe file · recipe.yaml · looked from {tmp_path}"


def test_loading_from_a_recipe_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = by_method("linear", save(tmp_path / "models", llama(1), llama(2)))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    AutoMergedModel.from_pretrained(asked)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["here", "models"]
    assert list((tmp_path / "here").iterdir()) == []


@pytest.mark.parametrize("dtype", ["bfloat16", torch.float16])
def test_dtype_and_device_map_are_those_of_transformers(tmp_path: Path, dtype: Any) -> None:
    asked = by_method("linear", save(tmp_path, llama(1), llama(2)))
    merge(asked, tmp_path / "out")
    loaded = AutoMergedModel.from_pretrained(asked, dtype=dtype, device_map="cpu")
    assert loaded.dtype is (torch.bfloat16 if dtype == "bfloat16" else dtype)
    assert loaded.device.type == "cpu"
    assert_same(loaded, LlamaForCausalLM.from_pretrained(tmp_path / "out", dtype=dtype))


def test_other_arguments_reach_transformers_too(tmp_path: Path) -> None:
    asked = by_method("linear", save(tmp_path, llama(1), llama(2)))
    assert AutoMergedModel.from_pretrained(asked, attn_implementation="eager").config._attn_implementation == "eager"
    model, info = AutoMergedModel.from_pretrained(asked, output_loading_info=True)
    assert isinstance(model, LlamaForCausalLM)
    assert not info["missing_keys"]
    merge(asked, tmp_path / "out")
    model, info = AutoMergedModel.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert isinstance(model, LlamaForCausalLM)
    assert not info["missing_keys"]


def test_a_loaded_model_answers_and_can_be_saved_and_loaded_again(tmp_path: Path) -> None:
    loaded = AutoMergedModel.from_pretrained(by_method("slerp", save(tmp_path, llama(1), llama(2))))
    tokens = loaded.generate(torch.tensor([[1, 2, 3]]), max_new_tokens=2, do_sample=False)
    assert tokens.shape == (1, 5)
    loaded.save_pretrained(tmp_path / "again")
    assert_same(loaded, LlamaForCausalLM.from_pretrained(tmp_path / "again"))


def test_the_generation_config_is_the_donors(tmp_path: Path) -> None:
    first, second = llama(1), llama(2)
    first.generation_config.update(max_new_tokens=7)
    second.generation_config.update(max_new_tokens=9)
    loaded = AutoMergedModel.from_pretrained(by_method("linear", save(tmp_path, first, second)))
    assert loaded.generation_config.max_new_tokens == 7


def test_a_merge_that_was_never_written_is_called_by_its_recipes_name_or_its_plan(tmp_path: Path) -> None:
    from hubmerge import build_plan

    asked = by_method("linear", save(tmp_path, llama(1), llama(2)))
    expected = f"hubmerge-{build_plan(asked).hash[:12]}"
    loaded = AutoMergedModel.from_pretrained(asked)
    assert (loaded.name_or_path, loaded.config.name_or_path) == (expected, expected)
    assert AutoMergedModel.from_pretrained({**asked, "name": "twins"}).name_or_path == "twins"


def test_tied_weights_stay_tied(tmp_path: Path) -> None:
    tied = {"tie_word_embeddings": True}
    asked = by_method("linear", save(tmp_path, llama(1, **tied), llama(2, **tied)))
    manifest = merge(asked, tmp_path / "out")
    loaded = AutoMergedModel.from_pretrained(asked)
    assert loaded.lm_head.weight is loaded.model.embed_tokens.weight
    assert loaded.config.tie_word_embeddings
    assert_same(loaded, LlamaForCausalLM.from_pretrained(tmp_path / "out"))
    assert manifest.tensors["merged"] == len(loaded.state_dict()) - 1  # the head is no tensor of its own


def test_a_tied_parent_lends_its_embeddings_to_the_head_of_an_untied_donor(tmp_path: Path) -> None:
    untied, tied = llama(1), llama(2, tie_word_embeddings=True)
    loaded = AutoMergedModel.from_pretrained(by_method("linear", save(tmp_path, untied, tied)))
    assert not loaded.config.tie_word_embeddings
    assert torch.equal(loaded.lm_head.weight, (untied.lm_head.weight + tied.model.embed_tokens.weight) / 2)


def test_an_untied_parent_of_a_tied_donor_is_refused(tmp_path: Path) -> None:
    folders = save(tmp_path, llama(1, tie_word_embeddings=True), llama(2))
    with pytest.raises(PlanError) as refused:
        AutoMergedModel.from_pretrained(by_method("linear", folders))
    fault = refused.value.faults[0]
    assert fault.message.startswith(f"tensor 'lm_head.weight' of {folders[1]} is not in {folders[0]}")
    assert fault.hint == ("the first ties its head to its embeddings, the other does not: name the other as base_model")


def test_an_adapter_as_a_parent_is_loaded_without_its_base_being_written(tmp_path: Path) -> None:
    base = llama(1)
    (folder,) = save(tmp_path, base)
    a, b = np.ones((1, 16), "float32"), np.full((16, 1), 0.5, "float32")
    at = "model.layers.0.self_attn.q_proj"
    write_adapter(tmp_path / "lora", {f"{at}.lora_A.weight": a, f"{at}.lora_B.weight": b}, r=1, lora_alpha=2)
    loaded = AutoMergedModel.from_pretrained(recipe("passthrough", [f"{folder}+{tmp_path}/lora"]))
    assert torch.equal(loaded.get_parameter(f"{at}.weight"), base.get_parameter(f"{at}.weight") + 1)


def change_config(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))


def without_heads(tmp_path: Path) -> list[Path]:
    folders = save(tmp_path, bert(1).bert, bert(2).bert)
    for folder in folders:
        change_config(folder, architectures=["BertForSequenceClassification"])
    return folders


def test_a_head_that_no_parent_has_is_refused_and_never_made_up(tmp_path: Path) -> None:
    folders = without_heads(tmp_path)
    with pytest.raises(MergeError) as refused:
        AutoMergedModel.from_pretrained(by_method("linear", folders))
    assert str(refused.value) == (
        "BertForSequenceClassification needs 2 tensors that the parents do not have (first 'classifier.bias') · "
        f"{folders[0]} · a head that was never trained would be random; merge models of the class that is loaded"
    )


def test_a_head_that_a_folder_does_not_hold_is_refused_too(tmp_path: Path) -> None:
    folder = without_heads(tmp_path)[0]
    with pytest.raises(MergeError) as refused:
        AutoMergedModel.from_pretrained(folder)
    assert str(refused.value) == (
        "BertForSequenceClassification needs 2 tensors that the folder does not have (first 'classifier.bias') · "
        f"{folder} · a head that was never trained would be random; merge models of the class that is loaded"
    )


def test_a_model_without_a_head_loads_as_one(tmp_path: Path) -> None:
    folders = save(tmp_path, bert(1).bert, bert(2).bert)
    loaded = AutoMergedModel.from_pretrained(by_method("linear", folders))
    assert isinstance(loaded, BertModel)
    assert isinstance(loaded, type(AutoModel.from_pretrained(folders[0])))


@pytest.mark.parametrize("way", ["recipe", "folder"])
@pytest.mark.parametrize(
    ("key", "value", "what", "hint"),
    [
        (
            "architectures",
            ["MyOwnModel"],
            "the config names class 'MyOwnModel', which this transformers does not have",
            UPGRADE,
        ),
        ("architectures", [], "the config names no architecture", WRITE),
        ("architectures", None, "the config names no architecture", WRITE),
        ("architectures", "LlamaForCausalLM", "architectures is 'LlamaForCausalLM', not a list of class names", WRITE),
        ("architectures", {"a": 1}, "architectures is {'a': 1}, not a list of class names", WRITE),
        ("architectures", [3], "architectures is [3], not a list of class names", WRITE),
        ("architectures", ["LlamaConfig"], "the config names 'LlamaConfig', which is no class of a model", WRITE),
        (
            "architectures",
            ["PreTrainedModel"],
            "the config names 'PreTrainedModel', which is no class of a model",
            WRITE,
        ),
        ("architectures", ["logging"], "the config names 'logging', which is no class of a model", WRITE),
        ("id2label", ["cat"], "id2label is ['cat'], not a mapping of numbers to names", LABELS),
        ("id2label", 3, "id2label is 3, not a mapping of numbers to names", LABELS),
        ("id2label", {"cat": "0"}, "id2label is {'cat': '0'}, not a mapping of numbers to names", LABELS),
    ],
)
def test_a_config_that_names_no_class_or_labels_to_load_is_refused(
    tmp_path: Path, key: str, value: Any, what: str, hint: str, way: str
) -> None:
    (folder,) = save(tmp_path, llama(1))
    change_config(folder, **{key: value})
    with pytest.raises(PlanError) as refused:
        AutoMergedModel.from_pretrained(recipe("passthrough", [folder]) if way == "recipe" else folder)
    assert str(refused.value) == f"{what} · {folder} · {hint}"


@pytest.mark.parametrize("way", ["recipe", "folder"])
@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("hidden_act", "nope", "KeyError: 'nope'"),
        ("hidden_size", 32, "RuntimeError: You set `ignore_mismatched_sizes`"),
    ],
)
def test_what_transformers_cannot_load_is_one_error(
    tmp_path: Path, key: str, value: Any, reason: str, way: str
) -> None:
    (folder,) = save(tmp_path, llama(1))
    change_config(folder, **{key: value})
    with pytest.raises(MergeError) as refused:
        AutoMergedModel.from_pretrained(recipe("passthrough", [folder]) if way == "recipe" else folder)
    assert str(refused.value).startswith(f"transformers cannot load it ({reason}")
    assert refused.value.where == str(folder)
    assert refused.value.hint == "mend config.json or the weights, or the arguments given to from_pretrained"


def test_damaged_weights_of_a_folder_are_one_error(tmp_path: Path) -> None:
    (folder,) = save(tmp_path, llama(1))
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-50])
    with pytest.raises(MergeError) as refused:
        AutoMergedModel.from_pretrained(folder)
    assert str(refused.value) == (
        "the weights are damaged (Error while deserializing header: incomplete metadata, file not fully covered) · "
        f"{folder} · fetch or merge them again"
    )


@pytest.mark.parametrize(
    ("file", "error", "what"),
    [
        ("adapter_config.json", PlanError, "no readable adapter_config.json"),
        ("adapter_model.safetensors", MergeError, "the weights are damaged (Error while deserializing header"),
    ],
)
def test_a_damaged_adapter_is_one_error(tmp_path: Path, file: str, error: type[Exception], what: str) -> None:
    (base,) = save(tmp_path, llama(1))
    at = "base_model.model.model.layers.0.self_attn.q_proj"
    low, high = np.ones((1, 16), "float32"), np.ones((16, 1), "float32")
    adapter = tmp_path / "lora"
    write_adapter(adapter, {f"{at}.lora_A.weight": low, f"{at}.lora_B.weight": high}, r=1, lora_alpha=2)
    config = json.loads((adapter / "adapter_config.json").read_text())
    wanted = {"base_model_name_or_path": str(base), "target_modules": ["q_proj"]}
    (adapter / "adapter_config.json").write_text(json.dumps({**config, **wanted}))
    AutoMergedModel.from_pretrained(adapter)
    (adapter / file).write_bytes(b"[1]")
    with pytest.raises(error) as refused:
        AutoMergedModel.from_pretrained(adapter)
    assert str(refused.value).startswith(what)
    assert f" · {adapter} · " in str(refused.value)


@pytest.mark.parametrize("content", [b"[1]", b"\xff{}", b"{", b"[" * 100_000])
def test_a_config_that_is_no_object_of_json_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(PlanError, match=r"no readable config\.json, so this is not a model folder"):
        AutoMergedModel.from_pretrained(tmp_path)


def test_a_folder_that_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PlanError) as refused:
        AutoMergedModel.from_pretrained(tmp_path)
    assert str(refused.value) == (
        f"no readable config.json, so this is not a model folder · {tmp_path} · "
        "name the OUT of a merge, or a recipe file"
    )


def test_a_name_that_is_nowhere_is_refused() -> None:
    with pytest.raises(ModelNotFoundError, match="nobody/has-this-model is not in the local Hub cache"):
        AutoMergedModel.from_pretrained("nobody/has-this-model")


def test_a_nan_in_a_parent_is_refused_by_name(tmp_path: Path) -> None:
    broken = llama(2)
    with torch.no_grad():
        broken.model.norm.weight[3] = float("nan")
    folders = save(tmp_path, llama(1), broken)
    with pytest.raises(MergeError, match=r"tensor 'model.norm.weight' of .*/model1 is not finite: entry 3 is nan"):
        AutoMergedModel.from_pretrained(by_method("linear", folders))


def test_the_class_itself_cannot_be_made() -> None:
    with pytest.raises(TypeError, match=r"AutoMergedModel is used through AutoMergedModel\.from_pretrained"):
        AutoMergedModel()
