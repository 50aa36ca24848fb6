"""How the test Hub reads cards, and which it refuses."""

from __future__ import annotations

import pytest
from huggingface_hub import EvalResult, ModelCard, ModelCardData

from hub.card_rules import validate_card
from hub.cards import base_relation, read_card


@pytest.mark.parametrize(
    ("card", "config", "files", "relation"),
    [
        ("tags: [a]", {}, (), None),
        ("base_model: org/a", {}, (), "finetune"),
        ("base_model: [org/a, org/b]", {}, (), "merge"),
        ("base_model: org/a\ntags: [merge]", {}, (), "merge"),
        ("base_model: [org/a, org/b]\nlibrary_name: peft", {}, (), "adapter"),
        ("base_model: org/a", {}, ("adapter_config.json",), "adapter"),
        ("base_model: org/a", {"quantization_config": {"bits": 4}}, (), "quantized"),
        ("base_model: org/a", {}, ("model.gguf",), "quantized"),
        ("base_model: [org/a, org/b]\nbase_model_relation: finetune", {}, (), "finetune"),
    ],
)
def test_how_a_model_descends_is_read_or_inferred(card, config, files, relation):
    assert base_relation(read_card(f"---\n{card}\n---\n"), config, files) == relation


@pytest.mark.parametrize(
    ("yaml", "error"),
    [
        ("base_model: /home/ada/model", '"base_model" with value "/home/ada/model" is not valid. Use a model id from https://hf.co/models.'),
        ("base_model: [org/a, 3]", '"base_model[1]" with value "3" is not valid. Use a model id from https://hf.co/models.'),
        ("datasets: [a b]", '"datasets[0]" with value "a b" is not valid. Use a dataset id from https://hf.co/datasets.'),
        ("base_model_relation: child", '"base_model_relation" must be one of [adapter, merge, quantized, finetune]'),
        ("license: other\nlicense_name: My Own", '"license_name" must be a lower case id without spaces'),
        ("tags: [a, 1]", '"tags[1]" must be a string'),
        ("library_name: [a]", '"library_name" must be a string'),
        ("language: English", '"language" must be an ISO 639 code, "code" or "multilingual"'),
        ("model-index: {}", '"model-index" must be an array'),
        ("model-index: [{name: m}]", '"model-index[0].results" is required'),
        ("model-index: [{results: []}]", '"model-index[0].name" is required'),
        ("- a\n- b", "metadata must be a mapping"),
    ],
)  # fmt: skip
def test_metadata_the_hub_refuses(yaml, error):
    assert validate_card(f"---\n{yaml}\n---\n# Title\n") == ([error], [])


def test_metadata_that_is_not_yaml_is_refused():
    (error,), warnings = validate_card("---\na: [b\n---\n")
    assert error.startswith("YAML Metadata Error: while parsing a flow sequence")
    assert warnings == []


def test_a_key_twice_is_refused():
    assert validate_card("---\nlicense: mit\nlicense: mit\n---\n")[0] == [
        "YAML Metadata Error: duplicated mapping key 'license'"
    ]


def test_a_result_without_its_parts_names_each():
    errors, _ = validate_card("---\nmodel-index: [{name: m, results: [{task: {}, metrics: [{type: acc}]}]}]\n---\n")
    place = "model-index[0].results[0]"
    assert errors == [
        f'"{place}.task.type" is required',
        f'"{place}.dataset.type" is required',
        f'"{place}.dataset.name" is required',
        f'"{place}.metrics[0].value" is required',
    ]


@pytest.mark.parametrize("text", ["", "# Title\n", "---\n---\n# Title\n", "---\n# only a comment\n---\n"])
def test_no_metadata_is_a_warning(text):
    assert validate_card(text) == ([], ["empty or missing yaml metadata in repo card"])


def test_a_card_of_the_client_s_own_making_is_valid(hub):
    data = ModelCardData(
        base_model=["ada/a", "ada/b"],
        base_model_relation="merge",
        language=["en", "zh-Hans", "multilingual"],
        library_name="transformers",
        license="llama3.1",
        model_name="merged",
        eval_results=[EvalResult("text-generation", "wikitext", "WikiText", "perplexity", 12.5)],
        tags=["merge"],
    )
    ModelCard(f"---\n{data.to_yaml()}\n---\n# Merged\n").validate()
    assert hub.log.requests()[0].status == 200


def test_a_card_that_is_not_valid_is_refused_by_the_client_s_own_check(hub):
    with pytest.raises(ValueError, match="must be one of"):
        ModelCard("---\nlicense: mine\n---\n").validate()
