"""A model's config and shapes against the tables: names on disk, outputs that stay, and what is refused in which words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import symmetry_models

from hubmerge.symmetry import Kind, Role, SymmetryError, SymmetrySpec, load_spec, spec_of
from zoo_index import LocalFolder, ModelRef, PinnedRef
from zoo_index.checkpoint import read_config, read_tensor_table

LLAMA: dict[str, Any] = {
    "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 12, "intermediate_size": 20,
    "num_hidden_layers": 2, "num_attention_heads": 6, "num_key_value_heads": 3, "vocab_size": 9,
}  # fmt: skip


def llama_shapes(layers: int = 2) -> dict[str, tuple[int, ...]]:
    """Of the config `LLAMA`: heads of 2, so 12 rows of queries, 6 of keys and values."""
    layer = {
        "input_layernorm": (12,), "self_attn.q_proj": (12, 12), "self_attn.k_proj": (6, 12), "self_attn.v_proj": (6, 12),
        "self_attn.o_proj": (12, 12), "post_attention_layernorm": (12,), "mlp.gate_proj": (20, 12), "mlp.up_proj": (20, 12),
        "mlp.down_proj": (12, 20),
    }  # fmt: skip
    return {
        "model.embed_tokens.weight": (9, 12),
        **{f"model.layers.{i}.{name}.weight": shape for i in range(layers) for name, shape in layer.items()},
        "model.norm.weight": (12,),
        "lm_head.weight": (9, 12),
    }


def shapes_of(name: str) -> dict[str, tuple[int, ...]]:
    return {key: tuple(value.shape) for key, value in symmetry_models.model(name).state_dict().items()}


def config_of(name: str) -> dict[str, Any]:
    model = symmetry_models.model(name)
    return {**model.config.to_dict(), "architectures": [type(model).__name__]}


def refusal(config: dict[str, Any], shapes: dict[str, tuple[int, ...]]) -> list[str]:
    with pytest.raises(SymmetryError) as refused:
        load_spec(config, shapes, where="org/model")
    return [str(fault) for fault in refused.value.faults]


def test_the_groups_of_a_llama_are_those_a_person_would_name() -> None:
    spec = load_spec(LLAMA, llama_shapes())
    told = [(group.name, group.kind.value, group.size, group.outer) for group in spec.groups.values()]
    assert told[:5] + told[8:9] + told[10:11] == [
        ("token", "tokens", 9, None),
        ("res", "permutation+signs", 12, None),
        ("kv0", "permutation", 3, None),
        ("query0", "permutation", 2, "kv0"),
        ("rope0", "planes", 2, "kv0"),
        ("value0", "invertible", 2, "kv0"),
        ("ff0", "permutation+signs+scales", 20, None),
    ]
    assert len(told) == 12
    assert spec.groups["res"].norm == "rms"
    assert spec.members("ff0", Role.WRITES) == ("model.layers.0.mlp.up_proj.weight",)
    assert spec.members("ff0", Role.FOLLOWS) == ("model.layers.0.mlp.gate_proj.weight",)
    assert spec.members("ff0", Role.READS) == ("model.layers.0.mlp.down_proj.weight",)
    assert str(spec.tensors["model.layers.1.self_attn.o_proj.weight"]) == "res (<kv1 <query1 <value1)"
    assert {name: tensor.shape for name, tensor in spec.tensors.items()} == llama_shapes()


def test_a_fused_projection_is_three_segments() -> None:
    spec = spec_of(symmetry_models.model("gpt2"))
    tensor = spec.tensors["transformer.h.0.attn.c_attn.weight"]
    assert str(tensor) == "<res [(head0 qk0)|(head0 <qk0)|(head0 value0)]"
    assert tensor.shape == (16, 48)


def test_an_architecture_without_a_table_is_told_with_those_that_have_one() -> None:
    known = (
        "bert, clip, clip_text_model, clip_vision_model, distilbert, gpt2, llama, mistral, qwen2, qwen3, resnet, roberta, t5, "
        "vit, xlm-roberta"
    )
    assert refusal({"model_type": "qwen2_moe"}, {"w": (1,)}) == [
        f"no symmetry table for architecture 'qwen2_moe' · org/model · there are tables for {known}; the nearest name is qwen2"
    ]
    assert refusal({}, {}) == [f"no symmetry table for architecture 'None' · org/model · there are tables for {known}"]


def test_a_tensor_that_no_row_covers_is_told_with_the_nearest_row() -> None:
    shapes = llama_shapes() | {f"model.layers.{i}.self_attn.sinks": (6,) for i in range(2)}
    assert refusal(LLAMA, shapes) == [
        (
            "tensor 'model.layers.0.self_attn.sinks' is not in the symmetry table llama; 1 more like it · org/model · the nearest "
            "name in it is 'model.layers.0.self_attn.v_proj.bias'"
        )
    ]


def test_an_axis_of_another_size_is_told_with_both_sizes() -> None:
    shapes = llama_shapes()
    shapes["model.layers.0.self_attn.q_proj.weight"] = (24, 12)
    shapes["model.layers.1.mlp.down_proj.weight"] = (12, 21)
    hint = "config.json and the weights are not of one model; fetch or save it again"
    assert refusal(LLAMA, shapes) == [
        (
            "axis 0 of tensor 'model.layers.0.self_attn.q_proj.weight' has 24 entries, config.json says 12 (kv0 3 x query0 2 x "
            f"rope0 2) · org/model · {hint}"
        ),
        (
            "axis 1 of tensor 'model.layers.1.mlp.down_proj.weight' has 21 entries, config.json says 20 (ff1 20) · org/model · "
            f"{hint}"
        ),
    ]


def test_a_tensor_with_other_axes_is_told_with_those_it_should_have() -> None:
    assert refusal(LLAMA, llama_shapes() | {"model.norm.weight": (12, 1), "lm_head.weight": (108,)}) == [
        (
            "tensor 'model.norm.weight' has shape [12, 1], the symmetry table gives it the axes =res · org/model · config.json and the "
            "weights are not of one model; fetch or save it again"
        ),
        (
            "tensor 'lm_head.weight' has shape [108], the symmetry table gives it the axes token <res · org/model · config.json and the "
            "weights are not of one model; fetch or save it again"
        ),
    ]


def test_missing_layers_are_told_once_for_each_kind_of_tensor() -> None:
    told = refusal(LLAMA, llama_shapes(layers=1))
    assert len(told) == 9
    assert told[0] == (
        "tensor 'model.layers.1.input_layernorm.weight' is missing, which config.json says the model has · org/model · "
        "config.json and the weights are not of one model; fetch or save it again"
    )


def test_a_block_that_is_begun_must_be_whole_and_can_be_left_out() -> None:
    shapes = shapes_of("bert")
    del shapes["cls.predictions.transform.LayerNorm.bias"]
    assert refusal(config_of("bert"), shapes) == [
        (
            "tensor 'cls.predictions.transform.LayerNorm.bias' is missing, which config.json says the model has · org/model · "
            "config.json and the weights are not of one model; fetch or save it again"
        )
    ]
    body = {name: shape for name, shape in shapes_of("bert").items() if name.startswith("bert.")}
    assert set(load_spec(config_of("bert"), body).tensors) == set(body)


def test_a_bias_that_some_layers_have_must_be_in_all() -> None:
    shapes = llama_shapes() | {"model.layers.0.mlp.up_proj.bias": (20,)}
    told = refusal(LLAMA, shapes)
    assert [fault.split(" · ")[0] for fault in told] == [
        "tensor 'model.layers.1.mlp.up_proj.bias' is missing, which config.json says the model has"
    ]


def test_two_names_for_one_tensor_are_refused() -> None:
    shapes = llama_shapes() | {"embed_tokens.weight": (9, 12)}
    assert refusal(LLAMA, shapes) == [
        (
            "tensors 'model.embed_tokens.weight' and 'embed_tokens.weight' are both 'model.embed_tokens.weight' of the symmetry "
            "table llama · org/model · delete the one that the model does not load"
        )
    ]


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"hidden_size": None}, "config.json does not state hidden_size"),
        ({"hidden_size": "12"}, "config.json gives hidden_size as '12', not a whole number"),
        ({"num_hidden_layers": -1}, "config.json gives num_hidden_layers as -1, not a whole number"),
        ({"num_hidden_layers": 10**12}, "config.json gives num_hidden_layers as 1000000000000 layers, more than 10000"),
        (
            {"num_attention_heads": "6"},
            (
                "config.json does not give num_attention_heads // num_key_value_heads (num_attention_heads is '6', not a whole "
                "number)"
            ),
        ),
        (
            {"num_key_value_heads": 0},
            "config.json does not give num_attention_heads // num_key_value_heads (integer division or modulo by zero)",
        ),
    ],
)
def test_a_config_that_does_not_say_a_size_is_refused(change: dict[str, Any], what: str) -> None:
    told = refusal(LLAMA | change, llama_shapes())
    assert told == [f"{what} · org/model · config.json is not that of this architecture, or damaged; fetch it again"]


@pytest.mark.parametrize("depths", [{"0": 2}, "22", [2, None], [2, [2]], [9000, 9000], 2])
def test_a_list_of_sizes_that_is_none_is_refused(depths: Any) -> None:
    (told,) = refusal(config_of("resnet basic") | {"depths": depths}, shapes_of("resnet basic"))
    assert told.startswith(("config.json does not give ", "config.json gives "))
    assert told.endswith(" · org/model · config.json is not that of this architecture, or damaged; fetch it again")


def test_what_a_config_leaves_out_has_the_value_that_transformers_gives_it() -> None:
    left_out = ("n_inner", "activation_function", "tie_word_embeddings")
    config = {key: value for key, value in config_of("gpt2 body").items() if key not in left_out}
    assert load_spec(config, shapes_of("gpt2 body")) == spec_of(symmetry_models.model("gpt2 body"))


def kinds(spec: SymmetrySpec, *groups: str) -> list[tuple[Kind, str]]:
    return [(spec.groups[name].kind, spec.groups[name].note) for name in groups]


def test_what_the_caller_sees_stays_as_it_is() -> None:
    fixed = (Kind.FIXED, "it is the model's output")
    assert kinds(spec_of(symmetry_models.model("bert body")), "res", "pool", "ff0") == [
        fixed, (Kind.FIXED, "nothing reads it but the model's caller"), (Kind.PERMUTATION, ""),
    ]  # fmt: skip
    assert kinds(spec_of(symmetry_models.model("resnet body")), "res1", "res2") == [(Kind.SCALED, ""), fixed]
    assert kinds(spec_of(symmetry_models.model("clip texts' body")), "text") == [fixed]
    assert kinds(spec_of(symmetry_models.model("bert classifier")), "res", "pool") == [
        (Kind.PERMUTATION, ""), (Kind.SIGNED, ""),
    ]  # fmt: skip


def test_a_group_whose_writers_are_not_stored_stays_as_it_is() -> None:
    shapes = {name: shape for name, shape in shapes_of("bert classifier").items() if "pooler" not in name}
    spec = load_spec(config_of("bert classifier"), shapes)
    assert kinds(spec, "pool") == [(Kind.FIXED, "the tensors that write it are not stored")]


def test_without_an_architecture_in_the_config_a_body_is_known_by_its_names() -> None:
    config = {key: value for key, value in LLAMA.items() if key != "architectures"}
    shapes = llama_shapes()
    assert load_spec(config, shapes).groups["res"].kind is Kind.SIGNED
    body = {name.removeprefix("model."): shape for name, shape in shapes.items() if name != "lm_head.weight"}
    assert load_spec(config, body).groups["res"].kind is Kind.FIXED
    assert load_spec(LLAMA, body).groups["res"].kind is Kind.SIGNED  # GPT-2's files on the Hub are named so


def test_a_head_that_could_read_either_of_two_groups_is_not_guessed() -> None:
    config = {key: value for key, value in config_of("bert classifier").items() if key != "architectures"}
    told = refusal(config, shapes_of("bert classifier"))
    assert [fault.split(" · ")[0] for fault in told] == [
        "tensor 'classifier.weight' is not in the symmetry table bert",
        "tensor 'classifier.bias' is not in the symmetry table bert",
    ]


def test_names_of_older_files_are_known_and_kept() -> None:
    shapes = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): shape
        for name, shape in shapes_of("bert").items()
    }
    spec = load_spec(config_of("bert"), shapes | {"bert.embeddings.position_ids": (1, 32)})
    assert str(spec.tensors["bert.embeddings.LayerNorm.gamma"]) == "=res"
    assert str(spec.tensors["bert.embeddings.LayerNorm.beta"]) == "res"


def test_vit_is_known_by_the_names_on_disk_and_in_memory() -> None:
    query = "(head1 qk1) <res"
    memory = spec_of(symmetry_models.model("vit")).tensors
    assert str(memory["vit.layers.1.attention.q_proj.weight"]) == query
    disk = {}
    for name, shape in shapes_of("vit").items():
        for new, old in (
            ("vit.layers", "vit.encoder.layer"), ("attention.q_proj", "attention.attention.query"),
            ("attention.k_proj", "attention.attention.key"), ("attention.v_proj", "attention.attention.value"),
            ("attention.o_proj", "attention.output.dense"), ("mlp.fc1", "intermediate.dense"), ("mlp.fc2", "output.dense"),
        ):  # fmt: skip
            name = name.replace(new, old)  # noqa: PLW2901
        disk[name] = shape
    spec = load_spec(config_of("vit"), disk)
    assert str(spec.tensors["vit.encoder.layer.1.attention.attention.query.weight"]) == query
    assert [str(tensor) for tensor in spec.tensors.values()] == [str(tensor) for tensor in memory.values()]


def test_leftovers_of_older_files_are_covered() -> None:
    gpt2 = shapes_of("gpt2") | {f"transformer.h.{i}.attn.bias": (1, 1, 32, 32) for i in range(2)}
    assert str(load_spec(config_of("gpt2"), gpt2).tensors["transformer.h.1.attn.bias"]) == "1 1 32 32"
    bare = {name.removeprefix("transformer."): shape for name, shape in gpt2.items() if name != "lm_head.weight"}
    assert str(load_spec(config_of("gpt2"), bare).tensors["h.0.mlp.c_proj.weight"]) == "<ff0 res"
    t5 = shapes_of("t5") | {"decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight": (32, 4)}
    assert len(load_spec(config_of("t5"), t5).tensors) == len(t5)
    frequencies = {f"model.layers.{i}.self_attn.rotary_emb.inv_freq": (1,) for i in range(2)}
    assert len(load_spec(LLAMA, llama_shapes() | frequencies).tensors) == 23


def test_the_first_stage_of_a_resnet_without_a_shortcut_is_its_stem() -> None:
    assert spec_of(symmetry_models.model("resnet basic")).same == (("res0", "res1"),)
    assert "res0" in spec_of(symmetry_models.model("resnet basic, other stem")).groups


def test_tied_heads_are_one_with_the_embeddings_and_so_are_their_groups() -> None:
    spec = spec_of(symmetry_models.model("bert"))
    assert spec.tied == (("cls.predictions.decoder.weight", "bert.embeddings.word_embeddings.weight"),)
    assert spec.same == (("mlm", "res"),)
    assert spec_of(symmetry_models.model("bert classifier")).same == ()  # it has no such head
    untied = spec_of(symmetry_models.model("bert untied"))
    assert (untied.tied, untied.same) == ((), ())
    assert untied.groups["mlm"].kind is Kind.PERMUTATION


def test_the_space_between_texts_and_pictures_is_an_output() -> None:
    spec = spec_of(symmetry_models.model("clip"))
    assert spec.groups["shared"].kind is Kind.FIXED
    assert {name for name, group in spec.groups.items() if group.norm} == {"text", "image"}


@pytest.mark.parametrize(
    "name",
    [
        "llama",
        "qwen2",
        "gpt2",
        "bert pretraining",
        "roberta",
        "distilbert",
        "vit",
        "resnet basic",
        "t5 gated",
        "clip",
        "clip texts' body",
    ],
)
def test_what_transformers_writes_is_covered_from_headers(name: str, tmp_path: Path) -> None:
    model = symmetry_models.model(name)
    model.save_pretrained(tmp_path)
    source = LocalFolder(tmp_path, PinnedRef(ModelRef.of(str(tmp_path))))
    table = read_tensor_table(source)
    spec = load_spec(read_config(source), {key: meta.shape for key, meta in table.items()})
    assert set(spec.tensors) == set(table)
    assert spec.groups == {key: group for key, group in spec_of(model).groups.items() if key in spec.groups}
    assert all(first not in table for first, _ in spec.tied)  # a tied tensor is written once
