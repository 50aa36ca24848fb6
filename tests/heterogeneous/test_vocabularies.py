"""Models with other tokenizers: rows of embeddings and heads go by what a token stands for."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from apart_models import model
from pleas_models import with_words
from safetensors.torch import load_file
from transformers import CLIPConfig, CLIPModel

import hubmerge
from cards.assembly_words import assembly_words
from hubmerge.errors import HubmergeError
from hubmerge.heterogeneous import Donor, merge_models, transport_deltas
from hubmerge.heterogeneous.other_vocabularies import instead_of_one_vocabulary
from hubmerge.heterogeneous.token_rows import token_rows
from hubmerge.symmetry import spec_of
from hubmerge.token_text import token_texts
from hubmerge.vocabulary import Vocabulary

WEIGHTS = "model.safetensors"


def vocabulary(*names: str, added: tuple[str, ...] = ()) -> Vocabulary:
    return Vocabulary({name: i for i, name in enumerate(names)}, {name: {} for name in added}, None)


def test_a_token_is_the_bytes_that_it_stands_for() -> None:
    byte_level = token_texts(vocabulary("<s>", "a", "Ġthe", "Ċ", "Ã©", added=("<s>",)))
    pieces = token_texts(vocabulary("<s>", "▁the", "é", "<0x0A>", "\x005", added=("<s>",)))
    assert byte_level == {
        ("added", b"<s>"): 0, ("text", b"a"): 1, ("text", b" the"): 2, ("text", b"\n"): 3, ("text", "é".encode()): 4,
    }  # fmt: skip
    assert pieces == {("added", b"<s>"): 0, ("text", b" the"): 1, ("text", "é".encode()): 2, ("text", b"\n"): 3}
    assert token_texts(vocabulary("##ing", "ing")) == {("text", b"##ing"): 0, ("text", b"ing"): 1}


def test_rows_are_counted_as_shared_as_the_base_s_alone_and_as_left_out() -> None:
    found = token_rows(vocabulary("a", "Ġb", "c", "d"), vocabulary("▁b", "a", "x", "d"), base_rows=6, other_rows=3)
    assert found.rows.tolist() == [
        1,
        0,
        -1,
        -1,
        -1,
        -1,
    ]  # the other's d has no row, and two of the base's rows are padding
    assert (found.shared, found.alone, found.left_out) == (2, 2, 1)


def test_shared_tokens_are_merged_and_the_base_s_own_stay() -> None:
    base, other = model("llama", 3), model("llama", 4, vocab_size=22)
    rows = np.array([21, *range(18), -1])
    merged = merge_models([base, other], [], align="identity", fit=None, renormalise=False, tokens=[rows]).model
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        ours, theirs, found = (each.state_dict()[name] for each in (base, other, merged))
        torch.testing.assert_close(found[0], (ours[0] + theirs[21]) / 2)
        torch.testing.assert_close(found[5], (ours[5] + theirs[4]) / 2)
        assert torch.equal(found[19], ours[19])
        assert found.shape == ours.shape


def test_the_rows_of_a_tower_of_texts_beside_one_of_pictures_go_by_tokens_too() -> None:
    size = {"hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}

    def towers(seed: int, words: int) -> CLIPModel:
        torch.manual_seed(seed)
        texts = {**size, "vocab_size": words, "max_position_embeddings": 6}
        pictures = {**size, "image_size": 8, "patch_size": 4}
        return CLIPModel(CLIPConfig(text_config=texts, vision_config=pictures, projection_dim=4)).eval()

    base, other = towers(0, 5), towers(1, 7)
    rows = np.array([6, 1, 0, -1, 2])
    merged = merge_models([base, other], [], align="identity", fit=None, renormalise=False, tokens=[rows]).model
    name = "text_model.embeddings.token_embedding.weight"
    ours, theirs, found = (each.state_dict()[name] for each in (base, other, merged))
    assert merged.config.text_config.vocab_size == 5
    torch.testing.assert_close(found[[0, 1, 2, 4]], (ours[[0, 1, 2, 4]] + theirs[[6, 1, 0, 2]]) / 2)
    assert torch.equal(found[3], ours[3])


def test_a_turned_stream_is_found_from_the_tokens_that_are_shared() -> None:
    """The other model is the base with its tokens in another order and one of them gone."""
    base = model("llama", 3)
    rows = np.array([*range(5, 20), -1, *range(4)])
    other = model("llama", 3)
    order = [int(np.flatnonzero(rows == i)[0]) if (rows == i).any() else 15 for i in range(20)]
    state = {name: v[order] if v.shape[0] == 20 else v for name, v in other.state_dict().items()}
    other.load_state_dict(state)
    merged = merge_models(
        [base, other], [], align="identity", residual="orthogonal", fit=None, renormalise=False, tokens=[rows]
    )
    assert merged.report.turned[0] > 0.99
    tokens = {"input_ids": torch.arange(3, 15).reshape(2, 6)}
    with torch.no_grad():
        torch.testing.assert_close(merged.model(**tokens).logits, base(**tokens).logits, atol=1e-3, rtol=1e-3)


def test_what_was_learned_of_shared_tokens_is_carried_and_the_target_s_own_rows_stay() -> None:
    target, base = model("llama", 3), model("llama", 3, vocab_size=22)
    shared = {n: v if v.shape[0] != 20 else torch.cat([v[1:], v[:1], v[:2]]) for n, v in target.state_dict().items()}
    base.load_state_dict(shared)
    learned = model("llama", 3, vocab_size=22)
    learned.load_state_dict({name: values + 0.25 for name, values in shared.items()})
    rows = np.array([-1, *range(19)])
    found = transport_deltas(target, [Donor(learned, base, 2.0, rows)], align="identity").model.state_dict()
    ours = target.state_dict()["model.embed_tokens.weight"]
    torch.testing.assert_close(found["model.embed_tokens.weight"][1:], ours[1:] + 0.5)
    assert torch.equal(found["model.embed_tokens.weight"][0], ours[0])


def test_a_row_that_the_other_model_does_not_have_is_refused() -> None:
    with pytest.raises(HubmergeError) as refused:
        merge_models(
            [model("llama", 3), model("llama", 4)],
            [],
            align="identity",
            fit=None,
            renormalise=False,
            tokens=[np.full(20, 20)],
        )
    assert str(refused.value) == "row 20 is named, and the model has 20 · tokens · count rows from 0"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    with_words(tmp_path / "base", 0, ["[UNK]", "Ġa", "Ġb", "Ġc"])
    with_words(tmp_path / "other", 1, ["[UNK]", "▁b", "▁d", "▁a", "▁e"])
    monkeypatch.chdir(tmp_path)
    return tmp_path


def pleas(**changes: Any) -> dict[str, Any]:
    models = [{"model": "./base"}, {"model": "./other"}]
    align = {"method": "weights", "residual": "keep"}
    return {"merge_method": "pleas", "models": models, "align": align, "fit": "none", **changes}


def test_a_recipe_for_models_of_other_vocabularies_says_how_many_rows_are_shared(here: Path) -> None:
    told = "3 of ./other's are ./base's too, by what they stand for; 1 rows of ./base stay its own, 2 tokens of ./other are left out"
    plan = hubmerge.build_plan(pleas())
    assert f"{'tokens':<13}{told}" in str(plan).splitlines()
    assert plan.to_dict()["tokens"] == [{"shared": 3, "alone": 1, "left_out": 2}]
    record = hubmerge.merge(pleas(), here / "out").assembly
    assert record is not None
    assert record.tokens["./other"].shared == 3
    words = assembly_words(record)
    assert words is not None
    assert any("3 of its tokens are those of base" in remark for remark in words.remarks)
    ours, theirs, merged = (load_file(here / name / WEIGHTS)["lm_head.weight"] for name in ("base", "other", "out"))
    torch.testing.assert_close(merged[:2], (ours[:2] + theirs[[0, 3]]) / 2)
    assert torch.equal(merged[3], ours[3])
    assert json.loads((here / "out" / "config.json").read_text())["vocab_size"] == 4


def test_models_of_other_vocabularies_are_not_run_on_the_same_data(here: Path) -> None:
    (here / "texts.txt").write_text("a b\n")
    with pytest.raises(HubmergeError) as refused:
        hubmerge.build_plan(pleas(align="activations", calibration="./texts.txt"))
    assert str(refused.value) == (
        "./base and ./other have different vocabularies, and the same text is other tokens to each, so that they do not see the same "
        "data · calibration · write align: weights and fit: none without calibration, or bring them to one vocabulary first: "
        "merge_method: passthrough with the other alone, base_model: ./base and tokenizer_source: base"
    )


def test_brought_to_the_base_s_vocabulary_as_the_refusal_says_they_are_run_on_the_same_data(here: Path) -> None:
    (here / "texts.txt").write_text("a b\n")
    hubmerge.merge(
        {
            "merge_method": "passthrough",
            "base_model": "./base",
            "models": [{"model": "./other"}],
            "tokenizer_source": "base",
        },
        here / "known",
    )
    models = [{"model": "./base"}, {"model": "./known"}]
    told = str(hubmerge.build_plan(pleas(models=models, align="activations", calibration="./texts.txt")))
    assert told.startswith("pleas")
    assert "tokens " not in told


def test_of_other_widths_too_what_a_model_learned_can_be_carried_without_data(here: Path) -> None:
    with_words(here / "wide", 2, ["[UNK]", "▁b", "▁a"], intermediate_size=16)
    (here / "texts.txt").write_text("a b\n")
    models = [{"model": "./base"}, {"model": "./wide"}]
    with pytest.raises(HubmergeError) as refused:
        hubmerge.build_plan(pleas(models=models, align="activations", calibration="./texts.txt"))
    assert refused.value.hint == (
        "merge_method: transport with align: weights carries what a model learned on top of its base"
    )
    shutil.copytree(here / "wide", here / "learned")
    carried = {
        "merge_method": "transport",
        "base_model": "./base",
        "models": [{"model": "./learned", "base": "./wide"}],
    }
    with pytest.raises(HubmergeError) as refused:
        hubmerge.build_plan({**carried, "calibration": "./texts.txt"})
    assert refused.value.hint == "write align: weights without calibration"
    assert str(hubmerge.build_plan({**carried, "align": "weights"})).startswith("transport")


def test_where_nothing_does_the_refusal_names_what_to_look_for(here: Path) -> None:
    with_words(here / "deep", 2, ["[UNK]", "▁b", "▁a"], intermediate_size=16, num_hidden_layers=2)
    (here / "texts.txt").write_text("a b\n")
    models = [{"model": "./base"}, {"model": "./deep"}]
    with pytest.raises(HubmergeError) as refused:
        hubmerge.build_plan(pleas(models=models, align="activations", calibration="./texts.txt"))
    assert refused.value.hint == "take a model of the vocabulary of ./base, or one of its widths"


@pytest.mark.parametrize(
    ("sizes", "hint"),
    [
        ({}, "bring them to one vocabulary first: merge_method: passthrough with the other alone, base_model: ./base and tokenizer_source: base"),
        ({"intermediate_size": 16}, "merge_method: transport with align: weights carries what a model learned on top of its base"),
    ],
)  # fmt: skip
@pytest.mark.parametrize(
    "recipe",
    [
        {"merge_method": "linear", "models": [{"model": n, "parameters": {"weight": 0.5}} for n in ("./base", "./unlike")], "align": "weights"},
        {"merge_method": "mal", "base_model": "./base", "models": [{"model": "./unlike"}]},
    ],
    ids=["align", "mal"],
)  # fmt: skip
@pytest.mark.parametrize("words", [["[UNK]", "▁b", "▁d", "▁a"], ["[UNK]", "▁b"]], ids=["as many", "fewer"])
def test_where_rows_do_not_go_by_tokens_the_refusal_names_what_the_two_models_can_do(
    recipe: dict[str, Any], sizes: dict[str, int], words: list[str], hint: str, here: Path
) -> None:
    with_words(here / "unlike", 2, words, **sizes)
    with pytest.raises(HubmergeError) as refused:
        hubmerge.build_plan(recipe)
    (fault,) = refused.value.faults
    assert fault.hint == hint


def test_a_donor_of_another_depth_is_not_said_to_take_the_base_s_vocabulary(here: Path) -> None:
    with_words(here / "deep", 2, ["[UNK]", "▁b", "▁d", "▁a"], num_hidden_layers=2)
    with pytest.raises(HubmergeError) as refused:
        hubmerge.build_plan({"merge_method": "mal", "base_model": "./base", "models": [{"model": "./deep"}]})
    assert refused.value.hint == "take a model of the vocabulary of ./base, or one of its shapes"


def test_a_model_with_fewer_positions_is_not_said_to_take_the_base_s_vocabulary() -> None:
    specs = [spec_of(model("bert", 0, vocab_size=22, max_position_embeddings=size)) for size in (32, 16)]
    assert instead_of_one_vocabulary("org/base", *specs) == (
        "take a model of the vocabulary of org/base, or one of its shapes"
    )
    assert instead_of_one_vocabulary("org/base", *specs, "write align: weights") == "write align: weights"
