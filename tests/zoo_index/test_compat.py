"""Which two models go together, and in which words the answer is given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from zoo_builders import llama_config, llama_tensors, record_of, write_model

from zoo_index import AdapterFacts, Architecture, Compatibility, Edge, Level, ModelRecord, compare, differing_fields
from zoo_index.ways import why_not_aligned


def pair(tmp_path: Path, left: dict[str, Any], right: dict[str, Any]) -> Compatibility:
    records = [record_of(write_model(tmp_path / name, config=config)) for name, config in (("a", left), ("b", right))]
    return compare(records[0], records[1])


def sentences(compatibility: Compatibility) -> list[str]:
    return [f"{reason.severity}: {reason.sentence}" for reason in compatibility.reasons]


def test_two_models_of_one_shape_and_config_need_no_words(tmp_path: Path) -> None:
    assert pair(tmp_path, llama_config(), llama_config()) == Compatibility(Level.identical, ())


def test_another_width_is_named_with_both_values(tmp_path: Path) -> None:
    found = pair(tmp_path, llama_config(), llama_config(hidden_size=16, head_dim=8))
    assert found.level is Level.size
    assert sentences(found) == [
        "block: hidden_size 8 vs 16",
        "block: head_dim 4 vs 8",
        "info: rotary planes of heads of another size turn at other speeds, and are not matched",
    ]
    assert (found.reasons[0].field, found.reasons[0].left, found.reasons[0].right) == ("hidden_size", 8, 16)


def resnet(**changes: Any) -> dict[str, Any]:
    shape = {"embedding_size": 4, "hidden_sizes": [4, 8], "depths": [1, 1]}
    return {"model_type": "resnet", "architectures": ["ResNetForImageClassification"], **shape, **changes}


def sized(place: Path, name: str, width: int, **config: Any) -> ModelRecord:
    tensors = {"body.weight": np.ones((width, 3), "float32")}
    return record_of(write_model(place / name, config=resnet(**config), tensors=tensors))


def test_widths_of_units_under_no_norm_but_batchnorm_can_be_aligned(tmp_path: Path) -> None:
    labels = {"id2label": {"0": "cat", "1": "dog"}}
    left, right = (
        sized(tmp_path, "a", 4, **labels),
        sized(tmp_path, "b", 6, embedding_size=6, hidden_sizes=[6, 12], **labels),
    )
    found = compare(left, right)
    assert found.level is Level.alignment
    *blocks, how = sentences(found)
    assert blocks == ["block: embedding_size 4 vs 6", "block: hidden_sizes [4, 8] vs [6, 12]"]
    assert how == (
        "info: their units can be matched on data: write merge_method: pleas with calibration data into a recipe, and "
        "`hubmerge plan` says what it makes of them; at the narrower one's widths units of the wider have no place "
        "(2 of 6 by embedding_size, 6 of 18 by hidden_sizes), with widths: union all have; align before any other "
        "method brings one to the other's units"
    )


def test_other_numbers_of_heads_can_be_aligned_where_the_heads_are_of_one_size(tmp_path: Path) -> None:
    wide = llama_config(num_attention_heads=4, num_key_value_heads=4, head_dim=4)
    left, right = (
        record_of(write_model(tmp_path / name, config=config, tensors={"q": np.ones((rows, 8), "float32")}))
        for name, config, rows in (("a", llama_config(num_key_value_heads=2, head_dim=4), 8), ("b", wide, 16))
    )
    assert compare(left, right).level is Level.alignment


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        (("llama", "mistral"), ""),  # one table has both
        (("llama", "gpt2"), "they are of different architectures, whose units are not matched with one another"),
        (("convnext", "swin"), "they are of different architectures, whose units are not matched with one another"),
        (("convnext", "convnext"), "there is no symmetry table for convnext, so their units cannot be matched either"),
    ],
)
def test_models_of_one_table_can_be_aligned(kinds: tuple[str, str], expected: str, tmp_path: Path) -> None:
    left, right = (
        record_of(write_model(tmp_path / str(i), config=llama_config(model_type=kind))) for i, kind in enumerate(kinds)
    )
    assert why_not_aligned(left, right) == expected


def test_classes_of_their_own_are_kept_apart_by_a_word_in_the_recipe(tmp_path: Path) -> None:
    left = sized(tmp_path, "a", 4, id2label={"0": "cat", "1": "dog"})
    right = sized(tmp_path, "b", 6, embedding_size=6, hidden_sizes=[6, 12], id2label={"0": "owl"})
    found = compare(left, right)
    assert found.level is Level.alignment
    assert "merge_method: pleas with calibration data and labels: disjoint into a recipe" in sentences(found)[-1]


def test_other_depths_are_aligned_and_it_is_told_what_has_no_partner(tmp_path: Path) -> None:
    left, right = sized(tmp_path, "a", 4), sized(tmp_path, "b", 6, depths=[1, 3])
    found = compare(left, right)
    assert found.level is Level.alignment
    assert sentences(found)[-1].endswith(
        "what it makes of them; 2 layers have no partner in the other model, and stay where the base has them, and are left out where "
        "not; merge_method: mal takes single layers"
    )


def test_of_models_with_other_numbers_of_stages_single_layers_are_taken(tmp_path: Path) -> None:
    left = sized(tmp_path, "a", 4)
    right = sized(tmp_path, "b", 6, hidden_sizes=[4, 8, 8], depths=[1, 1, 1])
    found = compare(left, right)
    assert found.level is Level.alignment
    assert sentences(found)[-1] == (
        "info: merge_method: mal takes single layers of one into the other, whose units it matches on data"
    )


def test_positions_turned_at_other_speeds_are_not_aligned(tmp_path: Path) -> None:
    llama = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 8}
    left, right = (
        sized(tmp_path, name, width, **llama, intermediate_size=width, rope_theta=theta)
        for name, width, theta in (("a", 4, 1e4), ("b", 6, 5e5))
    )
    found = compare(left, right)
    assert found.level is Level.size
    assert sentences(found)[-1] == (
        "info: their positions are turned at other speeds (rope_theta 10000.0 vs 500000.0), which no matching of units brings together"
    )


def test_an_architecture_without_a_table_says_so(tmp_path: Path) -> None:
    left, right = (
        sized(tmp_path, name, width, model_type="convnext", hidden_sizes=[width])
        for name, width in (("a", 4), ("b", 6))
    )
    found = compare(left, right)
    assert (found.level, sentences(found)) == (
        Level.size,
        [
            "block: hidden_sizes [4] vs [6]",
            "info: there is no symmetry table for convnext, so their units cannot be matched either",
        ],
    )


def test_another_depth_is_brought_together_by_alignment(tmp_path: Path) -> None:
    found = pair(tmp_path, llama_config(), llama_config(num_hidden_layers=3))
    assert (found.level, sentences(found)) == (
        Level.alignment,
        [
            "block: num_hidden_layers 2 vs 3",
            (
                "info: their units can be matched on data: write merge_method: pleas with calibration data into a recipe, and `hubmerge plan` "
                "says what it makes of them; 1 layer has no partner in the other model, and stays where the base has it, and is left out "
                "where not; merge_method: mal takes single layers"
            ),
        ],
    )


def test_another_vocabulary_on_the_same_body_is_a_level_of_its_own(tmp_path: Path) -> None:
    found = pair(tmp_path, llama_config(), llama_config(vocab_size=20))
    assert found.level is Level.vocabulary
    assert sentences(found) == [
        "block: vocab_size 12 vs 20: their embeddings have other rows",
        "block: lm_head.weight [12, 8] vs [20, 8]",
        "block: model.embed_tokens.weight [12, 8] vs [20, 8]",
    ]


def test_another_number_of_labels_on_the_same_body_is_another_vocabulary(tmp_path: Path) -> None:
    def classifier(labels: int) -> ModelRecord:
        config = {
            "model_type": "resnet",
            "architectures": ["ResNetForImageClassification"],
            "id2label": {str(i): f"LABEL_{i}" for i in range(labels)},
        }
        weights = {"body.weight": np.ones((4, 3), "float32"), "classifier.1.weight": np.ones((labels, 4), "float32")}
        return record_of(write_model(tmp_path / str(labels), config=config, tensors=weights))

    found = compare(classifier(10), classifier(5))
    assert found.level is Level.vocabulary
    assert sentences(found) == [
        "block: num_labels 10 vs 5: their classifiers have other rows",
        "block: classifier.1.weight [10, 4] vs [5, 4]",
        (
            "info: their units can be matched on data: write merge_method: pleas with calibration data and labels: disjoint into a "
            "recipe, and `hubmerge plan` says what it makes of them"
        ),
    ]


def test_a_head_tied_in_one_and_stored_in_the_other_is_no_incompatibility(tmp_path: Path) -> None:
    found = pair(tmp_path, llama_config(), llama_config(tie_word_embeddings=True))
    assert found.level is Level.identical
    assert {reason.severity for reason in found.reasons} == {"info"}
    assert "info: lm_head.weight is in one only: the other ties it to its embeddings" in sentences(found)


def test_a_vocabulary_padded_to_the_same_rows_fits() -> None:
    left, right = (
        model(n, soft={"vocab_size": v}, vocabulary={"lm_head.weight": (64, 8)}) for n, v in (("a", 50), ("b", 60))
    )
    found = compare(left, right)
    assert (found.level, sentences(found)) == (Level.identical, ["info: vocab_size 50 vs 60"])


def test_a_head_that_is_missing_though_it_is_not_tied_is_a_block(tmp_path: Path) -> None:
    config = llama_config()
    weights = {name: values for name, values in llama_tensors(config).items() if name != "lm_head.weight"}
    whole, headless = (
        record_of(write_model(tmp_path / "a")),
        record_of(write_model(tmp_path / "b", config=config, tensors=weights)),
    )
    found = compare(whole, headless)
    assert (found.level, sentences(found)) == (Level.vocabulary, ["block: lm_head.weight is in one only"])


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            {"rope_parameters": {"rope_theta": 500000.0, "rope_type": "default"}},
            "warn: rope_theta 10000.0 vs 500000.0: positions are rotated at other speeds, and a merge fits neither",
        ),
        (
            {"hidden_act": "gelu"},
            "warn: activation silu vs gelu: the layers compute another function, and a merge fits neither",
        ),
        (
            {"model_type": "mistral"},
            "warn: model_type llama vs mistral: the tensors have the same shapes but are used in another way",
        ),
        ({"dtype": "bfloat16"}, "info: dtype float32 vs bfloat16: numbers are converted"),
    ],
)
def test_what_merges_without_an_error_into_nonsense_is_warned_of(
    tmp_path: Path, change: dict[str, Any], sentence: str
) -> None:
    found = pair(tmp_path, llama_config(), llama_config(**change))
    assert (found.level, sentences(found)) == (Level.identical, [sentence])
    assert found.warnings == sentence.startswith("warn")


def test_the_same_rows_of_the_same_shapes_cut_into_other_heads_are_warned_of(tmp_path: Path) -> None:
    weights = {"model.layers.0.self_attn.q_proj.weight": np.ones((8, 8), "float32")}
    left, right = (
        record_of(write_model(tmp_path / str(n), config=llama_config(num_attention_heads=n), tensors=weights))
        for n in (2, 4)
    )
    found = compare(left, right)
    assert found.level is Level.identical
    assert found.reasons[0].sentence == (
        "num_attention_heads 2 vs 4: the tensors have the same shapes but are used in another way"
    )


def test_another_model_type_of_other_shapes_is_incompatible(tmp_path: Path) -> None:
    found = pair(tmp_path, llama_config(), llama_config(model_type="gpt2", hidden_size=16))
    assert found.level is Level.incompatible
    assert sentences(found)[0] == "block: model_type llama vs gpt2"


def test_another_model_type_of_the_same_table_is_compared_by_its_sizes(tmp_path: Path) -> None:
    found = pair(tmp_path, llama_config(), llama_config(model_type="mistral", intermediate_size=32))
    assert found.level is Level.alignment
    assert sentences(found)[0] == "block: model_type llama vs mistral"


def test_tensors_that_differ_though_the_configs_agree_are_said_to(tmp_path: Path) -> None:
    weights = {**llama_tensors(llama_config()), "model.extra.weight": np.ones((2, 2), "float32")}
    left, right = record_of(write_model(tmp_path / "a")), record_of(write_model(tmp_path / "b", tensors=weights))
    found = compare(left, right)
    assert found.level is Level.incompatible
    counts = "21 tensors, 1384 parameters vs 22 tensors, 1388 parameters"
    assert sentences(found) == [
        f"block: their tensors differ in name or shape ({counts}), and no width or depth explains it"
    ]


def test_other_labels_in_the_same_rows_are_warned_of() -> None:
    left, right = (
        model(name, soft={"labels": labels}) for name, labels in (("a", ["cat", "dog"]), ("b", ["dog", "cat"]))
    )
    assert sentences(compare(left, right)) == [
        'warn: labels ["cat", "dog"] vs ["dog", "cat"]: a row of the classifier stands for another label'
    ]


def test_other_tokenizers_are_warned_of() -> None:
    left, right = model("a", tokenizer="1" * 64), model("b", tokenizer="2" * 64)
    assert sentences(compare(left, right)) == [
        "warn: tokenizers differ (111111111111 vs 222222222222): one row of the embeddings can stand for two tokens"
    ]
    assert compare(left, model("c")).reasons == ()


def test_a_model_that_cannot_be_merged_is_compatible_with_nothing() -> None:
    found = compare(model("/zoo/a"), model("/zoo/b", refusals=("only GGUF weights (x.gguf)",)))
    assert (found.level, sentences(found)) == (Level.incompatible, ["block: /zoo/b: only GGUF weights (x.gguf)"])


def test_an_adapter_goes_with_its_base_and_not_with_another_model() -> None:
    lora = adapter("/zoo/lora", base="zoo/base")
    assert compare(model("/home/zoo/base"), lora).level is Level.adapter
    other = compare(model("/home/zoo/other"), lora)
    assert (other.level, sentences(other)) == (
        Level.incompatible,
        ["block: the adapter was trained on another model: zoo/base"],
    )


def test_an_adapter_on_a_child_of_its_base_is_warned_of() -> None:
    edge = Edge(child="me/child", parent="org/base", relation="finetune", source="card", confidence="medium")
    child = model("me/child").model_copy(update={"base_models": (edge,)})
    found = compare(adapter("me/lora", base="org/base"), child)
    assert (found.level, found.warnings) == (Level.adapter, 1)


def test_two_adapters_of_one_base_go_together_whatever_their_ranks() -> None:
    found = compare(adapter("a", base="org/base", r=4), adapter("b", base="Org/Base@v1", r=8))
    assert (found.level, sentences(found)) == (Level.adapter, ["info: r 4 vs 8"])


def test_two_adapters_of_two_bases_do_not_go_together() -> None:
    found = compare(adapter("a", base="org/one"), adapter("b", base="org/two"))
    assert sentences(found) == ["block: base org/one vs org/two: they adapt other models"]
    unknown = compare(adapter("a", base=None), adapter("b", base="org/two"))
    assert sentences(unknown) == ["block: base not stated vs org/two: they adapt other models"]


def test_another_kind_of_adapter_is_a_block_and_dora_a_warning() -> None:
    left = adapter("a", base="org/base")
    assert compare(left, adapter("b", base="org/base", peft_type="IA3")).level is Level.incompatible
    assert sentences(compare(left, adapter("b", base="org/base", dora=True))) == ["warn: dora false vs true"]


def test_differing_fields_takes_records() -> None:
    assert [str(d) for d in differing_fields(model("a", hard={"depths": [1]}), model("b", hard={"depths": [2]}))] == [
        "depths [1] vs [2]"
    ]


def test_the_graver_reasons_come_first(tmp_path: Path) -> None:
    found = pair(tmp_path, llama_config(), llama_config(hidden_size=16, hidden_act="gelu", rms_norm_eps=1e-5))
    assert [reason.severity for reason in found.reasons] == ["block", "warn", "info", "info"]


def test_levels_are_ranked_closest_first() -> None:
    assert [level.rank for level in Level] == [0, 1, 2, 3, 4, 5, 6]
    assert all(level.meaning for level in Level)


def model(
    reference: str,
    *,
    hard: dict[str, Any] | None = None,
    soft: dict[str, Any] | None = None,
    tokenizer: str | None = None,
    refusals: tuple[str, ...] = (),
    signature: str = "s",
    core: str = "c",
    vocabulary: dict[str, tuple[int, ...]] | None = None,
) -> ModelRecord:
    return ModelRecord(
        reference=reference,
        kind="model",
        model_type=(hard or {}).get("model_type"),
        architecture=Architecture(hard=hard or {}, soft=soft or {}),
        signature=signature,
        core_signature=core,
        vocabulary=vocabulary or {},
        tokenizer_signature=tokenizer,
        refusals=refusals,
    )


def adapter(
    reference: str, *, base: str | None, peft_type: str = "LORA", r: int = 4, dora: bool = False
) -> ModelRecord:
    facts = AdapterFacts(peft_type=peft_type, base=base, r=r, dora=dora)
    return ModelRecord(reference=reference, kind="adapter", adapter=facts, signature="s", core_signature="c")


names = st.sampled_from(["org/base", "/zoo/base", "base", "org/other"])
models = st.builds(
    model,
    names,
    hard=st.fixed_dictionaries(
        {},
        optional={
            "model_type": st.sampled_from(["llama", "resnet"]),
            "hidden_size": st.sampled_from([8, 16]),
            "num_labels": st.sampled_from([2, 3]),
            "patch_size": st.sampled_from([1, 2]),
        },
    ),
    soft=st.fixed_dictionaries(
        {},
        optional={
            "vocab_size": st.sampled_from([10, 20]),
            "rope_theta": st.sampled_from([1.0, 2.0]),
            "tie_word_embeddings": st.booleans(),
        },
    ),
    tokenizer=st.none() | st.sampled_from(["1" * 64, "2" * 64]),
    refusals=st.sampled_from([(), (), (), ("quantised",)]),
    signature=st.sampled_from("st"),
    core=st.sampled_from("cd"),
    vocabulary=st.dictionaries(
        st.sampled_from(["embed_tokens.weight", "lm_head.weight"]), st.sampled_from([(10, 2), (20, 2)]), max_size=2
    ),
)
adapters = st.builds(
    adapter,
    names,
    base=st.none() | names,
    peft_type=st.sampled_from(["LORA", "IA3"]),
    r=st.sampled_from([4, 8]),
    dora=st.booleans(),
)


@given(models | adapters, models | adapters)
def test_swapping_two_models_swaps_the_values_and_nothing_else(a: ModelRecord, b: ModelRecord) -> None:
    there, back = compare(a, b), compare(b, a)
    assert there.level is back.level
    assert sorted((r.field, repr(r.left), repr(r.right), r.severity) for r in there.reasons) == sorted(
        (r.field, repr(r.right), repr(r.left), r.severity) for r in back.reasons
    )


@given(models)
def test_a_model_that_can_be_merged_goes_with_itself(a: ModelRecord) -> None:
    found = compare(a, a)
    assert (found.level is Level.incompatible) == bool(a.refusals)
    assert a.refusals or found == Compatibility(Level.identical, ())


@given(models | adapters, models | adapters)
def test_an_incompatible_pair_always_has_a_reason_that_blocks(a: ModelRecord, b: ModelRecord) -> None:
    found = compare(a, b)
    blocked = any(reason.severity == "block" for reason in found.reasons)
    assert blocked == (found.level not in (Level.identical, Level.adapter))
