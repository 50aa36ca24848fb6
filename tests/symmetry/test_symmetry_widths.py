"""Which config fields decide the sizes of groups, which can make room for units kept apart, and configs widened by them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
import symmetry_models
from width_models import BERT, BOTTLENECK, LLAMA, RESNET, VIT, bert_shapes, llama_shapes, resnet_shapes, vit_shapes

from hubmerge.heterogeneous.parents import widths_of
from hubmerge.symmetry import load_spec, spec_of
from hubmerge.symmetry.costs import shape_at
from hubmerge.symmetry.widened import is_expressible, sizes_of, widened_config
from hubmerge.symmetry.widths import WidthField, width_fields


def fields_of(config: dict[str, Any], shapes: dict[str, tuple[int, ...]]) -> dict[str, WidthField]:
    return {field.path: field for field in width_fields(config, load_spec(config, shapes))}


def reasons(fields: dict[str, WidthField]) -> dict[str, str]:
    return {path: field.kept for path, field in fields.items() if field.kept}


def test_a_stem_that_is_one_with_the_first_stage_grows_with_it() -> None:
    fields = fields_of(RESNET, resnet_shapes(4, (4, 8)))
    assert list(fields) == ["embedding_size", "hidden_sizes[1]", "num_channels"]
    assert fields["embedding_size"] == WidthField(
        "embedding_size", 4, 1, (("res1", 1), ("mid0.0", 1)), along=(("hidden_sizes[0]", 4, 1),)
    )
    assert fields["hidden_sizes[1]"] == WidthField("hidden_sizes[1]", 8, 1, (("mid1.0", 1), ("res2", 1)))
    assert reasons(fields) == {"num_channels": "channel has no units that could be kept apart (fixed)"}
    assert fields["embedding_size"].at(3) == {"embedding_size": 7, "hidden_sizes[0]": 7}
    widened = widened_config(RESNET, fields["embedding_size"].at(3))
    assert load_spec(widened, resnet_shapes(7, (7, 8))).groups["res1"].size == 7


def test_a_stem_that_is_apart_grows_by_itself_but_not_into_the_first_stage() -> None:
    config = {**RESNET, "embedding_size": 3}
    fields = fields_of(config, resnet_shapes(3, (4, 8), apart=True))
    assert list(fields) == ["embedding_size", "hidden_sizes[0]", "hidden_sizes[1]", "num_channels"]
    assert (fields["embedding_size"].groups, fields["embedding_size"].along) == ((("res0", 1),), ())
    assert not is_expressible(config, {"embedding_size": 4})  # transformers then leaves the first shortcut out
    assert is_expressible(config, {"embedding_size": 5})
    load_spec(widened_config(config, {"embedding_size": 5}), resnet_shapes(5, (4, 8), apart=True))


def test_a_bottleneck_grows_by_whole_inner_units() -> None:
    fields = fields_of(BOTTLENECK, resnet_shapes(8, (8, 16), bottleneck=True))
    assert fields["hidden_sizes[1]"] == WidthField(
        "hidden_sizes[1]", 16, 4, (("one1.0", 1), ("two1.0", 1), ("res2", 4))
    )
    assert fields["embedding_size"].step == 4
    values = {**fields["hidden_sizes[1]"].at(2), **fields["embedding_size"].at(1)}
    assert values == {"embedding_size": 12, "hidden_sizes[0]": 12, "hidden_sizes[1]": 24}
    spec = load_spec(widened_config(BOTTLENECK, values), resnet_shapes(12, (12, 24), bottleneck=True))
    assert (spec.groups["one0.0"].size, spec.groups["two1.0"].size) == (3, 6)


def test_sizes_that_are_not_whole_still_grow_by_whole_steps() -> None:
    config = {**BOTTLENECK, "hidden_sizes": [8, 18]}  # inner units: 18 // 4 = 4, 22 // 4 = 5
    field = fields_of(config, resnet_shapes(8, (8, 18), bottleneck=True))["hidden_sizes[1]"]
    assert (field.value, field.step, field.groups) == (18, 4, (("one1.0", 1), ("two1.0", 1), ("res2", 4)))


def test_the_output_of_a_body_keeps_its_width() -> None:
    shapes = {name.removeprefix("resnet."): shape for name, shape in resnet_shapes(4, (4, 8)).items() if "res" in name}
    fields = fields_of({**RESNET, "architectures": ["ResNetModel"]}, shapes)
    assert reasons(fields)["hidden_sizes[1]"] == "res2 stays as it is: it is the model's output"


def test_in_a_vit_only_the_feed_forward_layers_can_grow() -> None:
    fields = fields_of(VIT, vit_shapes())
    assert fields["intermediate_size"] == WidthField("intermediate_size", 12, 1, (("ff0", 1),))
    assert reasons(fields) == {
        "hidden_size": "res is under a norm (layer), which units of one parent would change for the others",
        "num_attention_heads": "a larger num_attention_heads makes qk0 smaller",
        "num_channels": "channel has no units that could be kept apart (fixed)",
        "patch_size": "a larger patch_size makes position smaller",
        "image_size": "position has no units that could be kept apart (positions)",
    }
    assert [name for name, _ in fields["num_attention_heads"].groups] == ["head0", "qk0", "value0"]
    load_spec(widened_config(VIT, {"intermediate_size": 19}), vit_shapes(19))


def test_in_a_bert_only_the_feed_forward_layers_can_grow() -> None:
    fields = fields_of(BERT, bert_shapes())
    assert [path for path, field in fields.items() if not field.kept] == ["intermediate_size"]
    assert reasons(fields)["hidden_size"] == (
        "res is under a norm (post), which units of one parent would change for the others"
    )
    load_spec(widened_config(BERT, {"intermediate_size": 24}), bert_shapes(24))


def test_query_heads_grow_with_the_key_value_heads_that_they_belong_to() -> None:
    fields = fields_of(LLAMA, llama_shapes(LLAMA))
    assert fields["num_key_value_heads"] == WidthField(
        "num_key_value_heads", 3, 1, (("kv0", 1),), along=(("num_attention_heads", 6, 2),)
    )
    assert "num_attention_heads" not in fields
    assert reasons(fields)["head_dim"] == "rope0 has no units that could be kept apart (planes)"
    widened = widened_config(LLAMA, fields["num_key_value_heads"].at(3))
    assert (widened["num_attention_heads"], widened["num_key_value_heads"]) == (12, 6)
    sizes = {name: group.size for name, group in load_spec(widened, llama_shapes(widened)).groups.items()}
    assert (sizes["kv0"], sizes["query0"], sizes["rope0"], sizes["value0"]) == (6, 2, 2, 2)


def test_what_a_config_leaves_to_another_field_is_stated_before_that_changes() -> None:
    config = {name: value for name, value in LLAMA.items() if name != "head_dim"}
    field = fields_of(config, llama_shapes(LLAMA))["num_key_value_heads"]
    assert field.at(3) == {"num_key_value_heads": 6, "num_attention_heads": 12, "head_dim": 2}
    load_spec(widened_config(config, field.at(3)), llama_shapes({**LLAMA, **field.at(3)}))
    all_heads = {name: value for name, value in config.items() if name != "num_key_value_heads"}
    field = fields_of(all_heads, llama_shapes({**LLAMA, "num_key_value_heads": 6}))["num_key_value_heads"]
    assert field.at(1) == {"num_key_value_heads": 7, "num_attention_heads": 7, "head_dim": 2}


def test_llama_refuses_a_number_of_heads_that_does_not_divide_its_width() -> None:
    heads = {"num_key_value_heads": 4, "num_attention_heads": 8}
    assert not is_expressible(LLAMA, heads)
    assert is_expressible({**LLAMA, "model_type": "mistral"}, heads)
    assert is_expressible(LLAMA, {"num_key_value_heads": 6, "num_attention_heads": 12})


def test_a_widened_config_is_a_copy() -> None:
    config = {"sizes": [1, 2], "text_config": {"width": 3}, "empty": None}
    widened = widened_config(config, {"sizes[1]": 5, "text_config.width": 6, "empty.width": 7, "new": 8})
    assert widened == {"sizes": [1, 5], "text_config": {"width": 6}, "empty": {"width": 7}, "new": 8}
    assert config == {"sizes": [1, 2], "text_config": {"width": 3}, "empty": None}


def test_sizes_are_those_of_every_group_that_a_model_of_the_config_can_have() -> None:
    assert sizes_of(RESNET) == {"res1": 4, "channel": 1, "mid0.0": 4, "mid1.0": 8, "res2": 8, "label": 3}


@pytest.mark.parametrize(
    "name",
    [
        "qwen2",
        "qwen3",
        "gpt2 body",
        "roberta",
        "distilbert",
        "vit",
        "resnet basic",
        "resnet bottleneck",
        "t5",
        "clip",
        "clip texts",
    ],
)
def test_transformers_makes_a_model_of_the_widened_config_with_the_shapes_that_the_table_says(name: str) -> None:
    model = symmetry_models.model(name)
    config, spec = {**model.config.to_dict(), "architectures": [type(model).__name__]}, spec_of(model)
    free = [field for field in width_fields(config, spec) if not field.kept]
    values = {path: value for field in free for path, value in field.at(3).items()}
    widened = widened_config(config, values)
    sizes = {name: group.size for name, group in spec.groups.items()}
    grown = {**sizes, **{group: sizes[group] + 3 * gain for field in free for group, gain in field.groups}}
    assert grown != sizes
    assert {group: size for group, size in sizes_of(widened).items() if group in grown} == grown
    wide = type(model)(type(model.config).from_dict(widened))
    shapes = {tensor: tuple(value.shape) for tensor, value in wide.state_dict().items() if tensor in spec.tensors}
    assert shapes == {tensor: shape_at(symmetry, grown) for tensor, symmetry in spec.tensors.items()}


def test_a_size_that_two_groups_have_is_told_once_and_a_list_of_sizes_in_full() -> None:
    """Of a llama `head_dim` is the size of its rotary and of its value features."""
    llama = widths_of(cast("Any", SimpleNamespace(config=LLAMA)), load_spec(LLAMA, llama_shapes(LLAMA)))
    assert (llama["head_dim"], llama["intermediate_size"]) == ("2", "20")
    resnet = widths_of(cast("Any", SimpleNamespace(config=RESNET)), load_spec(RESNET, resnet_shapes(4, (4, 8))))
    assert resnet["hidden_sizes"] == "4 8"
