"""Configs of every dialect give one set of fields."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from zoo_builders import llama_config

from zoo_index import Architecture, differing_fields, read_architecture


def both(config: dict[str, Any]) -> dict[str, Any]:
    architecture = read_architecture(config)
    return {**architecture.hard, **architecture.soft}


def test_the_dialects_of_transformers_4_and_5_give_the_same_fields() -> None:
    new = llama_config(rope_parameters={"rope_theta": 5e5, "rope_type": "llama3", "factor": 8.0}, dtype="bfloat16")
    old = llama_config(
        rope_parameters=None,
        rope_theta=5e5,
        rope_scaling={"type": "llama3", "factor": 8.0},
        dtype=None,
        torch_dtype="torch.bfloat16",
    )
    assert read_architecture(new) == read_architecture(old)
    assert both(new)["rope_scaling"] == {"factor": 8.0}


def test_a_rope_without_scaling_is_the_default_in_both_dialects() -> None:
    old = llama_config(rope_parameters=None, rope_theta=10000.0, rope_scaling=None)
    assert read_architecture(old) == read_architecture(llama_config())
    assert both(old)["rope_type"] == "default"


def test_rotation_per_kind_of_layer_is_kept_per_kind() -> None:
    new = llama_config(
        rope_parameters={
            "full_attention": {"rope_theta": 1e6, "rope_type": "linear", "factor": 8.0},
            "sliding_attention": {"rope_theta": 1e4, "rope_type": "default"},
        }
    )
    assert both(new)["rope_theta"] == {"full_attention": 1e6, "sliding_attention": 1e4}
    assert both(new)["rope_type"] == {"full_attention": "linear", "sliding_attention": "default"}
    old = llama_config(rope_parameters=None, rope_theta=1e6, rope_local_base_freq=1e4)
    assert both(old)["rope_theta"] == both(new)["rope_theta"]


def test_a_multimodal_config_is_read_through_its_text_config() -> None:
    text = llama_config()
    config = {
        "model_type": "llava",
        "architectures": ["LlavaForConditionalGeneration"],
        "text_config": text,
        "vision_config": {"hidden_size": 32, "num_attention_heads": 4, "patch_size": 14},
    }
    fields = both(config)
    assert (fields["model_type"], fields["hidden_size"], fields["rope_theta"]) == ("llava", 8, 10000.0)
    assert (fields["vision_config.hidden_size"], fields["vision_config.head_dim"]) == (32, 8)


def test_older_names_are_normalised() -> None:
    fields = both({"model_type": "gpt2", "n_embd": 768, "n_layer": 12, "n_head": 12, "layer_norm_epsilon": 1e-5})
    assert [fields[name] for name in ("hidden_size", "num_hidden_layers", "num_attention_heads", "norm_eps")] == [
        768,
        12,
        12,
        1e-5,
    ]


def test_key_value_heads_and_head_size_follow_from_heads_and_width() -> None:
    fields = both({"hidden_size": 64, "num_attention_heads": 4})
    assert (fields["num_key_value_heads"], fields["head_dim"]) == (4, 16)
    assert both({"hidden_size": 64, "num_attention_heads": 4, "multi_query": True})["num_key_value_heads"] == 1


def test_explicit_and_derived_fields_come_in_one_order() -> None:
    derived = llama_config(head_dim=None, num_key_value_heads=None)
    explicit = llama_config(num_key_value_heads=2)
    assert list(read_architecture(derived).hard) == list(read_architecture(explicit).hard)
    assert read_architecture(derived) == read_architecture(explicit)


def test_a_convolutional_network_has_widths_and_depths_per_stage() -> None:
    fields = both({"model_type": "resnet", "hidden_sizes": [8, 16], "depths": [1, 2], "layer_type": "basic"})
    assert (fields["hidden_sizes"], fields["depths"], fields["layer_type"]) == ([8, 16], [1, 2], "basic")


def test_labels_are_counted_for_classifiers_alone() -> None:
    labels = {str(i): name for i, name in enumerate(["cat", "dog", "owl"])}
    classifier = {"architectures": ["ResNetForImageClassification"], "id2label": labels}
    assert both(classifier)["num_labels"] == 3
    assert both(classifier)["labels"] == ["cat", "dog", "owl"]
    assert "num_labels" not in both({"architectures": ["LlamaForCausalLM"], "id2label": labels})
    assert both({"architectures": ["BertForSequenceClassification"]})["num_labels"] == 2


def test_labels_without_names_are_only_counted() -> None:
    config = {"architectures": ["XForImageClassification"], "id2label": {"0": "LABEL_0", "1": "LABEL_1"}}
    assert both(config)["num_labels"] == 2
    assert "labels" not in both(config)


def test_labels_are_in_the_order_of_their_numbers() -> None:
    names = {str(i): f"class {i}" for i in reversed(range(12))}
    config = {"architectures": ["XForImageClassification"], "id2label": names}
    assert both(config)["labels"] == [f"class {i}" for i in range(12)]


def test_differing_fields_name_the_field_and_both_values_hard_ones_first() -> None:
    left, right = (
        read_architecture(llama_config(hidden_size=64, vocab_size=100, hidden_act="silu")),
        read_architecture(llama_config(hidden_size=128, vocab_size=120, hidden_act="gelu")),
    )
    differences = differing_fields(left, right)
    assert [str(difference) for difference in differences] == [
        "hidden_size 64 vs 128",
        "vocab_size 100 vs 120",
        "activation silu vs gelu",
    ]
    assert [difference.hard for difference in differences] == [True, False, False]


def test_a_field_that_only_one_states_is_no_difference() -> None:
    assert differing_fields(Architecture(hard={"mlp_bias": True}), Architecture()) == ()


def test_long_values_are_cut_when_printed() -> None:
    left, right = (Architecture(hard={"layer_types": [kind] * 40}) for kind in ("a", "b"))
    assert len(str(differing_fields(left, right)[0])) < 150


names = st.sampled_from(
    [
        "model_type",
        "architectures",
        "hidden_size",
        "num_attention_heads",
        "text_config",
        "rope_parameters",
        "rope_scaling",
        "rope_theta",
        "id2label",
        "num_labels",
        "dtype",
        "torch_dtype",
        "vision_config",
        "rope_local_base_freq",
        "head_dim",
    ]
)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=4)
    | st.just(["AForImageClassification"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names | st.text(max_size=3), inner, max_size=3),
    max_leaves=10,
)  # fmt: skip


@given(st.dictionaries(names, values, max_size=8))
def test_a_config_with_any_values_is_read_without_an_error(config: dict[str, Any]) -> None:
    architecture = read_architecture(config)
    assert Architecture.model_validate_json(architecture.model_dump_json()) == architecture
    assert differing_fields(architecture, architecture) == ()


@given(st.dictionaries(names, values, max_size=8), st.dictionaries(names, values, max_size=8))
def test_swapping_two_configs_swaps_the_values_and_nothing_else(a: dict[str, Any], b: dict[str, Any]) -> None:
    left, right = read_architecture(a), read_architecture(b)
    there = {(d.field, repr(d.left), repr(d.right), d.hard) for d in differing_fields(left, right)}
    back = {(d.field, repr(d.right), repr(d.left), d.hard) for d in differing_fields(right, left)}
    assert there == back


@pytest.mark.parametrize("labels", [{"x": "a"}, {"9" * 5000: "a"}, [], "cat"])
def test_labels_that_are_no_numbered_names_are_not_believed(labels: object) -> None:
    assert both({"architectures": ["XForImageClassification"], "id2label": labels})["num_labels"] == 2
