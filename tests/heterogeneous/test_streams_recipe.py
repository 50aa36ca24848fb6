"""`align: {residual: ...}` in recipes: what a plan says of it, what is recorded, and what is refused before any weight is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pleas_models import bert, images, saved, vit

import hubmerge
from cards.assembly_words import assembly_words
from hubmerge.errors import HubmergeError
from hubmerge.heterogeneous.plan_types import AssemblyPlan
from hubmerge.verify import verify_merge

TURNED = "turned as a whole by the weights that read and write it, the norms' gains absorbed"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two ViTs and a wider one; two language models of 12 words whose heads are tied, and a wider one; two BERTs."""
    place = tmp_path_factory.mktemp("streams")
    for i, name in enumerate(("left", "right")):
        vit(place / name, i, ("a", "b"))
        bert(place / f"bert-{name}", i, ("[UNK]", "x", "y"))
    vit(place / "wide", 2, ("a", "b"), hidden_size=16)
    own = {
        "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 12, "head_dim": 4,
        "num_key_value_heads": 1, "tie_word_embeddings": True, "bos_token_id": 1, "eos_token_id": 2,
    }  # fmt: skip
    saved("Llama", "ForCausalLM", place / "words", 0, own, ())
    saved("Llama", "ForCausalLM", place / "other-words", 1, own, ())
    saved("Llama", "ForCausalLM", place / "wide-words", 2, {**own, "hidden_size": 16}, ())
    images(place)
    return place


@pytest.fixture(autouse=True)
def here(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(models)


def pleas(*names: str, **align: Any) -> dict[str, Any]:
    return {
        "merge_method": "pleas",
        "models": [{"model": name} for name in names],
        "align": {"method": "weights", **align},
        "fit": "none",
    }


def planned(recipe: dict[str, Any]) -> AssemblyPlan:
    plan = hubmerge.build_plan(recipe)
    assert isinstance(plan, AssemblyPlan)
    return plan


def refusal(recipe: dict[str, Any]) -> str:
    with pytest.raises(HubmergeError) as refused:
        hubmerge.build_plan(recipe)
    return str(refused.value)


def test_a_turned_stream_is_planned_recorded_and_told() -> None:
    plan = planned(pleas("./left", "./right", residual="orthogonal"))
    assert plan.kept == {"res": TURNED}
    assert f"  res is {TURNED}" in str(plan).splitlines()
    assert planned(pleas("./left", "./right")).hash != plan.hash


def test_the_manifest_of_a_turned_stream_says_how_alike_the_streams_became(tmp_path: Path) -> None:
    manifest = hubmerge.merge(pleas("./left", "./right", residual="orthogonal"), tmp_path / "out")
    record = manifest.assembly
    assert record is not None
    assert (record.residual, len(record.turned), record.kept) == ("orthogonal", 1, {})
    assert 0 < record.turned[0] < 1
    words = assembly_words(record)
    assert words is not None
    assert any("residual streams were turned to that of left as a whole" in remark for remark in words.remarks)


def test_a_stream_that_is_matched_is_a_group_like_others() -> None:
    recipe = {
        **pleas("./left", "./right", residual="activations"),
        "calibration": {"data": "./images.npz", "samples": 8},
    }
    recipe["align"]["method"] = "activations"
    plan = planned(recipe)
    assert "res" in {group.name for group in plan.groups}
    assert plan.kept == {}


def test_a_tied_head_gets_rows_of_its_own_and_the_plan_says_so(models: Path, tmp_path: Path) -> None:
    told = "the head gets rows of its own beside the embeddings' (tie_word_embeddings: false), since gains are absorbed by it alone"
    recipe = pleas("./words", "./other-words", residual="orthogonal")
    plan = planned(recipe)
    assert told in plan.notes
    assert plan.cost.parameters - plan.base_cost.parameters == 12 * 8
    manifest = hubmerge.merge(recipe, tmp_path / "out")
    assert manifest.parameters == plan.cost.parameters
    assert manifest.tensors["merged"] == plan.tensor_count
    assert manifest.assembly is not None
    assert manifest.assembly.base_cost.parameters == plan.base_cost.parameters
    assert manifest.assembly.cost.parameters == plan.cost.parameters
    (check,) = [each for each in verify_merge(tmp_path / "out").checks if each.name == "derivation"]
    assert check.detail == f"{plan.tensor_count} tensors derived again from the models: the same bytes"
    assert '"tie_word_embeddings": false' in (tmp_path / "out" / "config.json").read_text()


def test_a_head_that_stays_tied_is_counted_once(tmp_path: Path) -> None:
    carried = {
        "merge_method": "transport",
        "base_model": "./words",
        "models": [{"model": "./other-words", "base": "./words"}],
        "align": {"method": "weights", "residual": "keep"},
    }
    for i, recipe in enumerate((pleas("./words", "./other-words"), carried)):
        record = hubmerge.merge(recipe, tmp_path / str(i)).assembly
        assert record is not None
        assert (record.base_cost.parameters, record.cost.parameters, record.cost_without_zeros.parameters) == (600,) * 3


def test_what_was_learned_goes_from_a_narrow_stream_to_a_wide_one(tmp_path: Path) -> None:
    recipe = {
        "merge_method": "transport",
        "base_model": "./wide-words",
        "models": [{"model": "./words", "base": "./other-words"}],
        "align": "weights",
    }
    plan = planned(recipe)
    assert plan.kept["res"] == f"{TURNED}, unless the embeddings show that the bases are relatives"
    record = hubmerge.merge(recipe, tmp_path / "out").assembly
    assert record is not None
    assert record.transport is not None
    assert (record.residual, record.groups["res"].sizes) == ("orthogonal", (16, 8))
    assert record.transport[0].support["res"] > 1


def test_a_plan_for_language_models_says_what_merged_strangers_better() -> None:
    told = (
        "the residual stream keeps its order, which is right for relatives; strangers of this architecture merged better with align: "
        "{residual: orthogonal}"
    )
    assert planned(pleas("./words", "./other-words")).notes == (told,)
    assert planned(pleas("./words", "./other-words", residual="keep")).notes == ()
    assert planned(pleas("./left", "./right")).notes == ()


def test_streams_that_cannot_be_turned_are_refused_before_any_weight_is_read() -> None:
    assert refusal(pleas("./bert-left", "./bert-right", residual="orthogonal")) == (
        "the residual stream of bert can only be reordered, since its norms stand inside it · align.residual · "
        "write residual: keep; streams of llama, gpt2, vit with a head can be turned"
    )
    wide = pleas("./left", "./wide", residual="orthogonal")
    wide["align"]["method"] = "identity"
    assert refusal(wide) == (
        "the residual stream has 8 entries in ./left and 16 in ./wide · align.residual · "
        "write merge_method: transport, which carries what was learned from one width to another"
    )
    assert refusal(pleas("./left", "./right", residual="activations")) == (
        "residual: activations matches the stream by activations, and align: weights has none · recipe: align.residual · "
        "write residual: keep or residual: orthogonal"
    )
