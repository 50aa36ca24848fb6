"""verify, third part: does the merge load with transformers, and are its outputs finite?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    CLIPConfig,
    CLIPModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    ResNetConfig,
    ResNetForImageClassification,
    T5Config,
    T5ForConditionalGeneration,
)
from zoo import recipe

from hubmerge import merge, verify_merge

SIZES: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}


def llama() -> PreTrainedModel:
    return LlamaForCausalLM(LlamaConfig(**SIZES, vocab_size=20))


def bert() -> PreTrainedModel:
    return BertForSequenceClassification(BertConfig(**SIZES, vocab_size=20, num_labels=3))


def resnet() -> PreTrainedModel:
    return ResNetForImageClassification(
        ResNetConfig(embedding_size=4, hidden_sizes=[4, 8], depths=[1, 1], num_labels=3, layer_type="basic")
    )


def clip() -> PreTrainedModel:
    text, image = {**SIZES, "vocab_size": 20}, {**SIZES, "image_size": 32, "patch_size": 16}
    return CLIPModel(CLIPConfig(text_config=text, vision_config=image, projection_dim=8))


def a_merge(place: Path, model: PreTrainedModel, **config: Any) -> Path:
    """The model passed through, with changes to its config."""
    model.save_pretrained(place / "model")
    path = place / "model" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **config}))
    merge(recipe("passthrough", [place / "model"]), place / "out")
    return place / "out"


def reload(folder: Path) -> tuple[bool | None, str]:
    (check,) = (check for check in verify_merge(folder).checks if check.name == "reload")
    return check.passed, check.detail


@pytest.mark.parametrize("make", [llama, bert, resnet])
def test_a_merge_loads_and_its_outputs_are_finite(tmp_path: Path, make: Any) -> None:
    model = make()
    assert reload(a_merge(tmp_path, model)) == (True, f"{type(model).__name__} loads, its outputs are finite")


def test_a_config_that_makes_nan_of_finite_weights_fails(tmp_path: Path) -> None:
    out = a_merge(tmp_path, llama(), rms_norm_eps=-1000.0)  # the root of a negative number
    assert reload(out) == (False, "LlamaForCausalLM loads, but its outputs are not finite")
    assert not verify_merge(out).passed


def test_a_class_that_needs_other_tensors_fails(tmp_path: Path) -> None:
    out = a_merge(tmp_path, bert().bert, architectures=["BertForSequenceClassification"])
    assert reload(out) == (
        False,
        "BertForSequenceClassification and the tensors do not match: missing 'classifier.bias'",
    )


def test_a_class_that_leaves_tensors_out_fails(tmp_path: Path) -> None:
    out = a_merge(tmp_path, bert(), architectures=["BertModel"])
    assert reload(out) == (False, "BertModel and the tensors do not match: unexpected 'classifier.bias'")


def test_a_class_that_transformers_does_not_have_fails(tmp_path: Path) -> None:
    passed, detail = reload(a_merge(tmp_path, llama(), architectures=["MyOwnModel"]))
    assert passed is False
    assert detail.startswith("transformers cannot load it: the config names class 'MyOwnModel'")


def test_a_model_of_text_and_pictures_is_run_on_both(tmp_path: Path) -> None:
    assert reload(a_merge(tmp_path, clip())) == (True, "CLIPModel loads, its outputs are finite")


def test_a_model_of_two_texts_is_run_on_both(tmp_path: Path) -> None:
    sizes = {"d_model": 16, "d_ff": 32, "num_layers": 1, "num_heads": 2, "d_kv": 8, "vocab_size": 40}
    model = T5ForConditionalGeneration(T5Config(**sizes, decoder_start_token_id=0))
    assert reload(a_merge(tmp_path, model)) == (True, "T5ForConditionalGeneration loads, its outputs are finite")


def test_a_model_that_cannot_be_run_on_made_up_inputs_is_said_not_to_have_been(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hubmerge.made_up_inputs.made_up_inputs", lambda _: {})
    passed, detail = reload(a_merge(tmp_path, clip()))
    assert passed is None
    assert detail.startswith("CLIPModel loads; it could not be run on a made-up input (")


def test_averaged_running_statistics_give_finite_outputs_under_every_method(tmp_path: Path) -> None:
    torch.manual_seed(0)
    base = resnet()
    base.save_pretrained(tmp_path / "base")
    with torch.no_grad():
        for name, buffer in base.named_buffers():
            if name.endswith("running_var"):
                buffer.fill_(0.1)  # as deltas, two such parents would take a variance of 1 to -0.8
    for name in ("one", "two"):
        base.save_pretrained(tmp_path / name)
    for method in ("linear", "task_arithmetic", "ties"):
        start = None if method == "linear" else tmp_path / "base"
        merge(recipe(method, [tmp_path / "one", tmp_path / "two"], base=start), tmp_path / method)
        assert reload(tmp_path / method) == (True, "ResNetForImageClassification loads, its outputs are finite")


@pytest.mark.parametrize(
    ("config", "error"),
    [
        ({"id2label": ["a", "b"]}, "AttributeError: 'list' object has no attribute 'items'"),
        ({"hidden_sizes": "many"}, "StrictDataclassFieldValidationError: Validation error for field 'hidden_sizes': "),
    ],
)
def test_a_config_that_transformers_stumbles_over_fails_in_words(
    tmp_path: Path, config: dict[str, Any], error: str
) -> None:
    passed, detail = reload(a_merge(tmp_path, resnet(), **config))
    assert passed is False
    assert detail.startswith(f"transformers cannot load it ({error}")
    assert "\n" not in detail


def test_a_config_that_names_no_class_fails_in_words(tmp_path: Path) -> None:
    passed, detail = reload(a_merge(tmp_path, resnet(), architectures=[1]))
    assert passed is False
    assert detail.startswith("transformers cannot load it: architectures is [1], not a list of class names")
