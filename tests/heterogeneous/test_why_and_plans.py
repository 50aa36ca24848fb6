"""What `zoo why` says of two models of other sizes is what plans make of them: every way that it names is accepted, and no other."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pleas_models import SIDE, saved

import hubmerge
from hubmerge.parents import open_parent
from zoo_index.compat import Level, compare
from zoo_index.errors import HubmergeError
from zoo_index.metadata import ModelRecord
from zoo_index.reference import ModelRef
from zoo_index.ways import Ways, ways_of

TEXT = {
    "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 20,
    "max_position_embeddings": 32, "bos_token_id": 1, "eos_token_id": 1, "pad_token_id": 1,
}  # fmt: skip
PICTURE = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4,
           "image_size": SIDE, "patch_size": 4, "num_channels": 1}  # fmt: skip
CHANNELS = {"embedding_size": 8, "hidden_sizes": [8, 12], "depths": [1, 2], "num_channels": 1, "layer_type": "basic"}
TEXTS = {**TEXT, "max_position_embeddings": 8}
TOWERS = {"text_config": TEXTS, "vision_config": PICTURE, "projection_dim": 12}
T5 = {"d_model": 16, "d_kv": 4, "d_ff": 24, "num_layers": 2, "num_heads": 4, "vocab_size": 20, "eos_token_id": 1,
      "decoder_start_token_id": 0}  # fmt: skip
GPT2 = {"n_embd": 16, "n_layer": 2, "n_head": 4, "vocab_size": 20, "n_positions": 32}
DISTILBERT = {"dim": 16, "hidden_dim": 24, "n_layers": 2, "n_heads": 4, "vocab_size": 20, "max_position_embeddings": 32}
PICTURES = {"vit", "vit body", "resnet", "resnet body", "resnet backbone", "clip pictures"}
KINDS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "llama": ("Llama", "ForCausalLM", {**TEXT, "num_key_value_heads": 2}),
    "mistral": ("Mistral", "ForCausalLM", {**TEXT, "num_key_value_heads": 2, "sliding_window": None}),
    "bert": ("Bert", "ForMaskedLM", TEXT),
    "gpt2": ("GPT2", "LMHeadModel", GPT2),
    "gpt2 two heads": ("GPT2", "DoubleHeadsModel", GPT2),
    "gpt2 body": ("GPT2", "Model", GPT2),
    "bert labels": ("Bert", "ForSequenceClassification", TEXT),
    "bert classes": ("Bert", "ForSequenceClassification", TEXT),
    "vit": ("ViT", "ForImageClassification", PICTURE),
    "vit body": ("ViT", "Model", PICTURE),
    "resnet body": ("ResNet", "Model", CHANNELS),
    "resnet backbone": ("ResNet", "Backbone", {**CHANNELS, "out_indices": [2]}),
    "resnet": ("ResNet", "ForImageClassification", CHANNELS),
    "t5": ("T5", "ForConditionalGeneration", T5),
    "t5 beside an encoder": ("T5", "ForConditionalGeneration", T5),
    "qwen3": ("Qwen3", "ForCausalLM", {**TEXT, "num_key_value_heads": 2, "head_dim": 4}),
    "t5 encoder": ("T5", "EncoderModel", T5),
    "distilbert": ("DistilBert", "ForMaskedLM", DISTILBERT),
    "clip texts": ("CLIPText", "ModelWithProjection", TEXTS),
    "clip texts' body": ("CLIPText", "Model", TEXTS),
    "clip pictures": ("CLIP", "ForImageClassification", TOWERS),
    "clip": ("CLIP", "Model", TOWERS),
}


BESIDE = {
    "clip texts' body": "clip texts",
    "t5 beside an encoder": "t5 encoder",
    "mistral": "llama",
    "gpt2 body": "gpt2 two heads",
    "bert classes": "bert",
    "vit body": "vit",
}
"""Kinds that are compared with a model of another one."""


def texts_of(**changes: Any) -> dict[str, Any]:
    return {"text_config": {**TEXTS, **changes}}


def pictures_of(**changes: Any) -> dict[str, Any]:
    return {"vision_config": {**PICTURE, **changes}}


ALL = Ways(whole=True, layers=True, any_method=True)
WHOLE_AND_LAYERS = Ways(whole=True, layers=True)
WHOLE = Ways(whole=True)
LAYERS = Ways(layers=True)
LAYERS_AND_ANY = Ways(layers=True, any_method=True)
CARRIED = Ways(transport=True)
NONE = Ways()
PAIRS: dict[str, tuple[str, dict[str, Any], Ways, Level]] = {
    "llama, hidden units": ("llama", {"intermediate_size": 32}, ALL, Level.alignment),
    "llama, heads": ("llama", {"num_attention_heads": 8, "head_dim": 4}, ALL, Level.alignment),
    "llama, depth": ("llama", {"num_hidden_layers": 3}, WHOLE_AND_LAYERS, Level.alignment),
    "llama, stream": ("llama", {"hidden_size": 24, "head_dim": 4}, CARRIED, Level.transport),
    "llama, stream and vocabulary": ("llama", {"hidden_size": 24, "head_dim": 4, "vocab_size": 24}, CARRIED, Level.transport),
    "llama, hidden units and vocabulary": ("llama", {"intermediate_size": 32, "vocab_size": 24}, CARRIED, Level.transport),
    "llama, stream and depth": ("llama", {"hidden_size": 24, "head_dim": 4, "num_hidden_layers": 3}, NONE, Level.size),
    "llama, features of heads": ("llama", {"hidden_size": 24}, NONE, Level.size),
    "llama, tied and hidden units": ("llama", {"tie_word_embeddings": True, "intermediate_size": 32}, LAYERS, Level.alignment),
    "llama and mistral, hidden units": ("mistral", {"intermediate_size": 32}, ALL, Level.alignment),
    "bert, other head": ("bert classes", {}, LAYERS, Level.alignment),
    "bert, other head and hidden units": ("bert classes", {"intermediate_size": 32}, LAYERS, Level.alignment),
    "bert, other head and words": ("bert classes", {"vocab_size": 24}, NONE, Level.incompatible),
    "bert, stream": ("bert", {"hidden_size": 24}, NONE, Level.size),
    "bert, positions": ("bert", {"max_position_embeddings": 16}, WHOLE_AND_LAYERS, Level.alignment),
    "bert, features of heads": ("bert", {"num_attention_heads": 2}, WHOLE_AND_LAYERS, Level.identical),
    "bert, heads and words": ("bert", {"num_attention_heads": 2, "vocab_size": 24}, CARRIED, Level.vocabulary),
    "bert, ReLU and hidden units": ("bert", {"hidden_act": "relu", "intermediate_size": 32}, WHOLE_AND_LAYERS, Level.alignment),
    "gpt2, hidden units that the other does not state": ("gpt2", {"n_inner": 48}, ALL, Level.alignment),
    "gpt2 two heads, hidden units": ("gpt2 two heads", {"n_inner": 48}, ALL, Level.alignment),
    "gpt2 two heads, no head": ("gpt2 body", {}, LAYERS, Level.alignment),
    "gpt2, stream": ("gpt2", {"n_embd": 24}, CARRIED, Level.transport),
    "vit, no head": ("vit body", {}, LAYERS, Level.alignment),
    "vit, pictures": ("vit", {"image_size": 2 * SIDE}, WHOLE, Level.alignment),
    "vit, patches": ("vit", {"patch_size": 8}, NONE, Level.incompatible),
    "vit, labels": ("vit", {"labels": ("d", "e")}, WHOLE_AND_LAYERS, Level.vocabulary),
    "resnet, widths": ("resnet", {"embedding_size": 12, "hidden_sizes": [12, 16]}, ALL, Level.alignment),
    "resnet body, widths": ("resnet body", {"embedding_size": 12, "hidden_sizes": [12, 12]}, ALL, Level.alignment),
    "resnet body, width that is seen": ("resnet body", {"hidden_sizes": [8, 16]}, LAYERS, Level.alignment),
    "resnet backbone, widths": ("resnet backbone", {"embedding_size": 12, "hidden_sizes": [12, 12]}, ALL, Level.alignment),
    "resnet backbone, width that is seen": ("resnet backbone", {"hidden_sizes": [8, 16]}, LAYERS, Level.alignment),
    "resnet backbone, other stages and widths": (
        "resnet backbone", {"out_indices": [1], "embedding_size": 12, "hidden_sizes": [12, 12]}, LAYERS, Level.alignment,
    ),
    "resnet, a shortcut": ("resnet", {"embedding_size": 12}, LAYERS, Level.alignment),
    "resnet, stages": ("resnet", {"hidden_sizes": [8, 12, 12], "depths": [1, 2, 1]}, LAYERS, Level.alignment),
    "t5, hidden units": ("t5", {"d_ff": 32}, LAYERS_AND_ANY, Level.alignment),
    "t5, features of heads": ("t5", {"d_kv": 8}, LAYERS, Level.alignment),
    "t5, depth": ("t5", {"num_decoder_layers": 3}, WHOLE_AND_LAYERS, Level.alignment),
    "t5 beside an encoder": ("t5 beside an encoder", {}, LAYERS, Level.alignment),
    "t5 beside an encoder, hidden units": ("t5 beside an encoder", {"d_ff": 32}, LAYERS, Level.alignment),
    "qwen3, kinds of layers and hidden units": (
        "qwen3", {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1, "intermediate_size": 32}, ALL, Level.alignment,
    ),
    "t5, distances": ("t5", {"relative_attention_num_buckets": 16}, LAYERS, Level.alignment),
    "t5 encoder, distances": ("t5 encoder", {"relative_attention_num_buckets": 16}, LAYERS, Level.alignment),
    "bert, kinds of tokens": ("bert", {"type_vocab_size": 1}, LAYERS, Level.alignment),
    "t5 encoder, heads": ("t5 encoder", {"num_heads": 2}, ALL, Level.alignment),
    "distilbert, positions": ("distilbert", {"max_position_embeddings": 16}, WHOLE_AND_LAYERS, Level.alignment),
    "clip, hidden units of texts": ("clip", texts_of(intermediate_size=32), LAYERS_AND_ANY, Level.alignment),
    "clip, hidden units of pictures": ("clip", pictures_of(intermediate_size=32), LAYERS_AND_ANY, Level.alignment),
    "clip, depth of pictures": ("clip", pictures_of(num_hidden_layers=3), WHOLE_AND_LAYERS, Level.alignment),
    "clip texts, no shared space": ("clip texts' body", {}, LAYERS, Level.alignment),
    "clip, shared space": ("clip", {"projection_dim": 16}, LAYERS, Level.alignment),
    "clip, shared space and words": ("clip", {"projection_dim": 16, **texts_of(vocab_size=24)}, NONE, Level.size),
    "clip, shared space and stream of pictures": ("clip", {"projection_dim": 16, **pictures_of(hidden_size=24)}, LAYERS, Level.alignment),
    "clip, stream of pictures": ("clip", pictures_of(hidden_size=24), LAYERS, Level.alignment),
    "clip, words": ("clip", texts_of(vocab_size=24), WHOLE, Level.alignment),
    "clip, length of texts": ("clip", texts_of(max_position_embeddings=12), LAYERS, Level.alignment),
    "clip, size of pictures": ("clip", pictures_of(image_size=2 * SIDE), NONE, Level.size),
    "clip pictures, hidden units": ("clip pictures", pictures_of(intermediate_size=32), ALL, Level.alignment),
    "clip pictures, stream": ("clip pictures", pictures_of(hidden_size=24), NONE, Level.size),
}  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of every kind, and noise for pictures and texts of words that all tokenizers know."""
    folder = tmp_path_factory.mktemp("why")
    for kind in KINDS:
        made(folder, kind, kind, {})
    np.savez(folder / "images.npz", pixel_values=np.zeros((2, 1, SIDE, SIDE), np.float32))
    (folder / "texts.txt").write_text("w1 w2\nw3 w4\n")
    return folder


@pytest.fixture(autouse=True)
def here(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)


def made(folder: Path, name: str, kind: str, changes: dict[str, Any]) -> str:
    family, head, config = KINDS[kind]
    own = {**config, **changes}
    classes = own.pop("labels", ("a", "b", "c") if kind in PICTURES - {"vit body"} else ())
    saved(family, head, folder / name, len(name), own, classes)
    words = own.get("text_config", own).get("vocab_size")
    if words is not None:
        words_of(folder / name, words)
    return f"./{name}"


def words_of(folder: Path, count: int) -> None:
    """A tokenizer of so many words."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel({f"w{i}": i for i in range(count)}, unk_token="w0"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    (folder / "tokenizer.json").write_text(tokenizer.to_str())
    given = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "w1", "unk_token": "w0"}
    (folder / "tokenizer_config.json").write_text(json.dumps(given))


def record(name: str) -> ModelRecord:
    return open_parent(ModelRef.parse(name)).record


def is_accepted(*recipes: dict[str, Any]) -> bool:
    for recipe in recipes:
        try:
            hubmerge.build_plan(recipe)
        except HubmergeError:
            continue
        return True
    return False


def accepted(a: str, b: str, *, texts: bool) -> tuple[Ways, bool, bool]:
    """The ways that plans accept, and which of whole and layers are accepted on data: `a` is the base; of several ways to write one, any.

    if_asked: whatever the widths.
    """
    listed = [{"model": a}, {"model": b}]
    pleas = {"merge_method": "pleas", "models": listed}
    calibration = {"data": "./texts.txt" if texts else "./images.npz", "samples": 2, "max_length": 8}
    data, mal = (
        {**pleas, "calibration": calibration},
        {"merge_method": "mal", "base_model": a, "models": [{"model": b}]},
    )
    weighed = [{**each, "parameters": {"weight": 0.5}} for each in listed]
    ways = Ways(
        whole=is_accepted(data, {**data, "labels": "disjoint"}, {**pleas, "align": "weights", "fit": "none"}),
        layers=is_accepted(mal),
        any_method=is_accepted({"merge_method": "linear", "models": weighed, "align": "weights"}),
        transport=is_accepted(
            {"merge_method": "transport", "base_model": a, "models": [{"model": f"{b}-learned", "base": b}], "align": "weights"}
        ),
        if_asked=is_accepted({**data, "align": {"residual": "activations"}}),
    )  # fmt: skip
    return ways, is_accepted(data, {**data, "labels": "disjoint"}), is_accepted({**mal, "calibration": calibration})


@pytest.mark.parametrize("pair", PAIRS)
def test_the_ways_that_are_named_are_those_that_plans_accept(pair: str, place: Path) -> None:
    kind, changes, expected, level = PAIRS[pair]
    base = f"./{BESIDE.get(kind, kind)}"
    other = made(place, pair.replace(" ", "-").replace(",", ""), kind, changes)
    shutil.copytree(place / other, place / f"{other}-learned")
    found, left, right = ways_of(record(base), record(other)), record(base), record(other)
    ways, whole_on_data, layers_on_data = accepted(base, other, texts=kind not in PICTURES)
    assert (found.whole and found.on_data, found.layers and found.on_data) == (whole_on_data, layers_on_data)
    assert (found.whole, found.layers, found.any_method) == (ways.whole, ways.layers, ways.any_method)
    assert (found.whole, found.layers, found.any_method) == (expected.whole, expected.layers, expected.any_method)
    if not found.match_units:
        assert found.transport == ways.transport == expected.transport
        assert found.if_asked == ways.if_asked
    told = compare(left, right)
    assert told.level is level
    assert any(reason.field == "alignment" for reason in told.reasons) == (level is not Level.incompatible)


BY_WEIGHTS = {"merge_method": "pleas", "align": "weights", "fit": "none"}
MATCHED = {"merge_method": "pleas", "calibration": {"data": "./texts.txt", "samples": 2, "max_length": 8}}
GIVEN = "what its entries are is given from outside, and they are matched with nothing; `hubmerge zoo why` tells what these models allow"
HINTS: dict[str, tuple[str, dict[str, Any], dict[str, Any], str]] = {
    "two inputs, hidden units": (
        "t5", {"d_ff": 32}, BY_WEIGHTS, "another method after align: weights takes models of other widths",
    ),
    "two inputs, positions": (
        "clip", texts_of(max_position_embeddings=12), BY_WEIGHTS,
        "take models with as many positions: of this family no table of positions is brought to another length",
    ),
    "positions, any method": (
        "clip", texts_of(max_position_embeddings=12), {"merge_method": "linear", "align": "weights"},
        "take a model with as many positions",
    ),
    "distances, by weights": ("t5", {"relative_attention_num_buckets": 16}, BY_WEIGHTS, GIVEN),
    "shared space, any method": ("clip", {"projection_dim": 16}, {"merge_method": "linear", "align": "weights"}, GIVEN),
    "shared space, entry by entry": (
        "clip", {"projection_dim": 16}, {"merge_method": "linear"},
        "`hubmerge zoo why` tells how such models are put together",
    ),
    "labels, entry by entry": (
        "bert labels", {"labels": ("d", "e", "f")}, {"merge_method": "linear"},
        "`hubmerge zoo why` tells how such models are put together",
    ),
    "labels and words, on data": (
        "bert labels", {"labels": ("d", "e", "f"), "vocab_size": 24}, MATCHED,
        "take a model of the vocabulary of ./bert labels, or one of its widths",
    ),
    "features of heads, by weights": (
        "bert", {"num_attention_heads": 2}, BY_WEIGHTS, "models of different widths are matched by activations",
    ),
    "hidden units and words, by weights": (
        "llama", {"intermediate_size": 32, "vocab_size": 24}, BY_WEIGHTS,
        "merge_method: transport with align: weights carries what a model learned on top of its base",
    ),
    "stream, by weights": (
        "bert", {"hidden_size": 24}, BY_WEIGHTS,
        "a norm divides by all its units together, so it is matched only where align: {residual: activations} asks for it",
    ),
    "stream of two inputs, by weights": (
        "t5", {"d_model": 24}, BY_WEIGHTS, "a norm divides by all its units together, so it is not matched with more or fewer",
    ),
    "stream and fewer positions": (
        "gpt2", {"n_embd": 24, "n_positions": 16}, {**MATCHED, "align": {"residual": "activations"}},
        "name the model with fewer positions as the base, or take models of one width",
    ),
    "other outputs": (
        "resnet backbone", {"out_indices": [1]}, BY_WEIGHTS,
        "merge models of one class that give the same outputs; merge_method: mal takes single layers as they are",
    ),
    "a stream that is not turned": (
        "bert", {"hidden_size": 24}, MATCHED,
        "a norm divides by all its units together, so it is matched only where align: {residual: activations} asks for it",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", HINTS)
def test_a_refusal_names_nothing_that_would_be_refused_too(case: str, place: Path) -> None:
    kind, changes, recipe, hint = HINTS[case]
    other = made(place, f"hint-{case.replace(' ', '-').replace(',', '')}", kind, changes)
    weighed = {"parameters": {"weight": 0.5}} if recipe["merge_method"] == "linear" else {}
    with pytest.raises(HubmergeError) as refused:
        hubmerge.build_plan({**recipe, "models": [{"model": name, **weighed} for name in (f"./{kind}", other)]})
    assert [fault.hint for fault in refused.value.faults] == [hint]


def test_entries_that_are_given_from_outside_are_named_with_what_takes_single_layers(place: Path) -> None:
    single = "merge_method: mal takes single layers of one into the other, whose units it matches on"
    noise = f"info: {single} noise: name no calibration data, which is of one kind"
    given = "its entries are given from outside, and matched with nothing"
    buckets, space = "relative_attention_num_buckets", "projection_dim"
    expected = {
        ("clip", space): [f"block: projection_dim 12 vs 16: {given}", noise],
        ("clip pictures", space): ["info: projection_dim 12 vs 16"],  # its class has no such space
        ("t5", buckets): [f"block: relative_attention_num_buckets 32 vs 16: {given}", noise],
        ("t5 encoder", buckets): [f"block: relative_attention_num_buckets 32 vs 16: {given}", f"info: {single} data"],
    }
    for (kind, field), sentences in expected.items():
        other = made(place, f"given-{kind.replace(' ', '-')}", kind, {field: 16})
        reasons = compare(record(f"./{kind}"), record(other)).reasons
        assert [f"{reason.severity}: {reason.sentence}" for reason in reasons] == sentences


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        ("bert labels", {"labels": ("d", "e", "f")}, "./bert labels has 2 labels and ./more-bert-labels-learned 3"),
        ("gpt2", {"n_layer": 3}, "./gpt2 and ./more-gpt2-learned have other numbers of layers"),
    ],
)
def test_what_is_in_the_way_of_transport_is_told_whatever_the_alignment(
    kind: str, changes: dict[str, Any], message: str, place: Path
) -> None:
    other = made(place, f"more-{kind.replace(' ', '-')}", kind, changes)
    shutil.copytree(place / other, place / f"{other}-learned")
    carried = {
        "merge_method": "transport",
        "base_model": f"./{kind}",
        "models": [{"model": f"{other}-learned", "base": other}],
    }
    for how in ({"align": "weights"}, {"calibration": MATCHED["calibration"]}):
        with pytest.raises(HubmergeError) as refused:
            hubmerge.build_plan({**carried, **how})
        (fault,) = refused.value.faults
        assert fault.message == message
        assert str(fault.hint).endswith("`hubmerge zoo why` tells what else these models allow")


@pytest.mark.parametrize("field", ["downsample_in_first_stage", "downsample_in_bottleneck"])
def test_models_that_halve_pictures_elsewhere_are_held_together_on_no_data(field: str, place: Path) -> None:
    own = {"layer_type": "bottleneck", "embedding_size": 12}  # so that both have a shortcut in the first stage
    base, other = (made(place, f"{field}-{i}", "resnet", {**own, field: bool(i)}) for i in range(2))
    listed = [{"model": name, "parameters": {"weight": 0.5}} for name in (base, other)]
    on_data = {"calibration": {"data": "./images.npz", "samples": 2}}
    told = f"{base} and {other} halve pictures at other layers ({field} false vs true), so that what these compute has other sizes"
    pleas = {"merge_method": "pleas", "models": listed}
    for recipe in (pleas, {"merge_method": "linear", "models": listed, "align": "activations"}):
        with pytest.raises(HubmergeError) as refused:
            hubmerge.build_plan({**recipe, **on_data})
        assert [fault.message for fault in refused.value.faults] == [told]
    # without least squares no two models are run together
    for how in ({"fit": "none"}, {"fit": "none", **on_data}, {"fit": "regmean", **on_data}):
        by_weights = {**pleas, "align": "weights", **how}
        assert f"{base} and {other} differ: {field} false vs true; the merge halves where the base does" in (
            hubmerge.build_plan(by_weights).warnings
        )
    hubmerge.merge(by_weights, place / f"{field}-merged")
    assert is_accepted({"merge_method": "linear", "models": listed, "align": "weights", **on_data})
    basic = [made(place, f"basic-{field}-{i}", "resnet", {"embedding_size": 12, field: bool(i)}) for i in range(2)]
    unread = field == "downsample_in_bottleneck"  # by models without bottlenecks
    assert is_accepted({"merge_method": "pleas", "models": [{"model": name} for name in basic], **on_data}) == unread


def test_where_the_only_stage_halves_nothing_it_does_not_count_where_it_would(place: Path) -> None:
    own = {"layer_type": "bottleneck", "hidden_sizes": [8], "depths": [2]}
    models = [made(place, f"one-stage-{i}", "resnet", {**own, "downsample_in_bottleneck": bool(i)}) for i in range(2)]
    listed = [{"model": name} for name in models]
    on_data = {"calibration": {"data": "./images.npz", "samples": 2}}
    assert is_accepted({"merge_method": "pleas", "models": listed, **on_data})


def test_distances_that_are_sorted_in_another_way_are_warned_of(place: Path) -> None:
    nearer = made(place, "nearer", "t5 encoder", {"relative_attention_max_distance": 64})
    differs = "relative_attention_max_distance 128 vs 64"
    told = compare(record("./t5 encoder"), record(nearer))
    assert [reason.sentence for reason in told.reasons] == [
        f"{differs}: distances are sorted in another way, and a merge fits neither"
    ]
    plan = hubmerge.build_plan({**BY_WEIGHTS, "models": [{"model": "./t5 encoder"}, {"model": nearer}]})
    assert f"./t5 encoder and {nearer} differ: {differs}; the merge sorts distances as the base does" in plan.warnings


IF_ASKED = "; merge_method: pleas matches such streams on data where align: {residual: activations} asks for it, and few units are alike"


def test_what_can_only_be_carried_is_told_with_what_it_needs(place: Path) -> None:
    wide = made(place, "wide", "llama", {"hidden_size": 24, "head_dim": 4})
    more = made(place, "more", "llama", {"hidden_size": 24, "head_dim": 4, "vocab_size": 24})
    told = [compare(record("./llama"), record(name)).reasons[-1].sentence for name in (wide, more)]
    begin = (
        "what one learned on top of its own base can be carried to the other, though their units cannot be matched one by one: write "
        "merge_method: transport with the other as base_model, the one that learned under models with its base beside it (base:) and "
    )
    assert told == [
        f"{begin}calibration data into a recipe{IF_ASKED}",
        f"{begin}align: weights, since the same text is other tokens to each, into a recipe",
    ]


def test_what_is_in_the_way_of_carrying_is_named(place: Path) -> None:
    deep = made(place, "deep", "llama", {"hidden_size": 24, "head_dim": 4, "num_hidden_layers": 3})
    wide = made(place, "wide-bert", "bert", {"hidden_size": 24})
    unlike = "units under a norm of all of them are not matched with more or fewer"
    assert compare(record("./llama"), record(deep)).reasons[-1].sentence == (
        f"{unlike}; what one learned on top of its base could be carried to the other if they had as many layers{IF_ASKED}"
    )
    assert compare(record("./bert"), record(wide)).reasons[-1].sentence == (
        f"{unlike}, and streams are turned to one another in models of llama, gpt2, vit with a head alone{IF_ASKED}"
    )
