"""`align: {residual: ...}` in recipes: what a plan says of it, what is recorded, and what is refused before any weight is read."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from pleas_models import bert, images, saved, vit, with_words
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

import hubmerge
from cards.assembly_words import assembly_words
from hubmerge.assembly_words import how_far
from hubmerge.errors import HubmergeError
from hubmerge.heterogeneous.plan_types import AssemblyPlan
from hubmerge.heterogeneous.stream_plan import head_notes
from hubmerge.parents import open_parent
from hubmerge.recipe_stages import FitMethod
from hubmerge.symmetry.verify import spec_of
from hubmerge.verify import verify_merge
from zoo_index.reference import ModelRef
from zoo_index.source import LocalFolder
from zoo_index.ways import ways_of

WEIGHTS = "model.safetensors"
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
    saved("Llama", "ForCausalLM", place / "deeper-words", 1, {**own, "num_hidden_layers": 2}, ())
    for dtype in (torch.float32, torch.bfloat16):
        tuned(place / "words", place / f"tuned-words-{str(dtype).removeprefix('torch.')}", dtype)
    rows = {"n_embd": 8, "n_layer": 1, "n_head": 2, "vocab_size": 12, "bos_token_id": 1, "eos_token_id": 2}
    saved("GPT2", "LMHeadModel", place / "positions", 0, {**rows, "n_positions": 6}, ())
    saved("GPT2", "LMHeadModel", place / "more", 1, {**rows, "n_positions": 9}, ())
    words = [f"word{i}" for i in range(40)]
    with_words(place / "tokens", 0, words)
    moved(place / "tokens", with_words(place / "tokens-moved", 1, ["own", *words[::-1]]))
    with_words(place / "tokens-strange", 1, ["own", *words[::-1]])
    with_words(place / "tokens-none", 1, [f"other{i}" for i in range(40)])
    images(place)
    return place


def tuned(source: Path, folder: Path, dtype: torch.dtype) -> None:
    """A model trained on a little: every number changed by some per cent."""
    model = AutoModelForCausalLM.from_pretrained(source)
    random = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for values in model.parameters():
            values.mul_(1 + 0.05 * torch.randn(values.shape, generator=random))
    model.to(dtype).save_pretrained(folder)


def moved(source: Path, folder: Path) -> None:
    """The embeddings of `source` for the words of `folder`, which are in the opposite order behind one of its own."""
    model = AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        rows = AutoModelForCausalLM.from_pretrained(source).get_input_embeddings().weight
        model.get_input_embeddings().weight[1:] = rows.flip(0)
    model.save_pretrained(folder)


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
    told = (
        f"as a whole (orthogonal Procrustes on the weights that read and write them, cosine {record.turned[0]:.2f} on average), and the "
        "norms' gains absorbed by what reads behind them"
    )
    assert how_far(record)[0] == f"the residual streams were turned to that of ./left {told}"
    words = assembly_words(record)
    assert words is not None
    assert f"The residual streams were turned to that of left {told}." in words.remarks
    kept = hubmerge.merge(pleas("./left", "./right", residual="keep"), tmp_path / "kept").assembly
    assert kept is not None
    assert not any("turned" in line for line in how_far(kept))


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


@pytest.mark.parametrize(("fit", "told"), [("least_squares", True), ("regmean", True), ("none", False)])
def test_a_head_that_stays_tied_is_not_fitted_and_the_plan_says_so(fit: FitMethod, told: bool) -> None:
    words, images = (
        planned(pleas(f"./{a}", f"./{b}", residual="keep")) for a, b in (("words", "other-words"), ("left", "right"))
    )
    note = "the head has the embeddings' rows (tie_word_embeddings) and is not fitted; it would be in models saved with rows of its own"
    spec = spec_of(AutoModelForCausalLM.from_pretrained("words"))
    assert head_notes(spec, replace(words.stages, fit=fit)) == [note] * told
    assert not any("head" in each for each in images.notes)


def test_a_head_that_stays_tied_is_counted_once(tmp_path: Path) -> None:
    carried = {
        "merge_method": "transport",
        "base_model": "./words",
        "models": [{"model": "./other-words", "base": "./words"}],
        "align": {"method": "weights", "residual": "keep"},
    }
    for i, recipe in enumerate((pleas("./words", "./other-words", residual="keep"), carried)):
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
    assert plan.kept["res"] == f"{TURNED}; nothing in it tells that ./other-words is a relative"
    assert plan.cost.parameters - plan.base_cost.parameters == 12 * 16
    record = hubmerge.merge(recipe, tmp_path / "out").assembly
    assert record is not None
    assert record.transport is not None
    assert (record.residual, record.groups["res"].sizes) == ("orthogonal", (16, 8))
    assert record.transport[0].support["res"] > 1
    assert how_far(record)[0] == (
        "the residual streams were turned to that of ./wide-words as a whole (orthogonal Procrustes on the weights that read and write "
        "them), and the norms' gains absorbed by what reads behind them"
    )


@pytest.mark.parametrize("names", [("./words", "./other-words"), ("./left", "./right"), ("./positions", "./more")])
def test_streams_of_strangers_are_turned_and_the_plan_says_what_told_them(
    names: tuple[str, str], tmp_path: Path
) -> None:
    """By rows of tokens, by pixels, by rows of tokens where positions differ in number."""
    plan = planned(pleas(*names))
    told = re.fullmatch(
        rf"{re.escape(TURNED)}; (\S+) has a cosine of (-?0\.\d\d) with that of {names[1]}, as strangers' have",
        plan.kept["res"],
    )
    assert told is not None
    assert -0.4 < float(told[2]) < 0.4
    assert plan.stages.residual == "orthogonal"
    assert plan.memory_use == planned(pleas(*names, residual="orthogonal")).memory_use
    manifest = hubmerge.merge(pleas(*names), tmp_path / "out")
    assert manifest.assembly is not None
    assert (manifest.assembly.residual, len(manifest.assembly.turned)) == ("orthogonal", 1)
    hubmerge.merge(pleas(*names, residual="orthogonal"), tmp_path / "asked")
    assert (tmp_path / "out" / WEIGHTS).read_bytes() == (tmp_path / "asked" / WEIGHTS).read_bytes()
    (check,) = [each for each in verify_merge(tmp_path / "out", reload=False).checks if each.name == "derivation"]
    assert check.detail.endswith("derived again from the models: the same bytes")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_streams_of_relatives_keep_their_order_and_the_plan_says_what_told_them(dtype: str, models: Path) -> None:
    plan = planned(pleas("./words", f"./tuned-words-{dtype}"))
    told = f"model.embed_tokens.weight has a cosine of 1.00 with that of ./tuned-words-{dtype}, as relatives' have"
    assert plan.kept["res"] == f"a norm over all its units (rms); {told}"
    assert f"  res keeps the order: {plan.kept['res']}" in str(plan).splitlines()
    assert plan.hash == planned(pleas("./words", f"./tuned-words-{dtype}")).hash
    assert plan.cost.parameters == plan.base_cost.parameters
    beside = planned(pleas("./words", f"./tuned-words-{dtype}", "./other-words"))  # one stranger is enough
    assert beside.stages.residual == "orthogonal"
    assert beside.kept["res"].endswith("with that of ./other-words, as strangers' have")


def test_a_plan_reads_few_numbers_to_tell_relatives_from_strangers(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    own = LocalFolder.read

    def counted(self: LocalFolder, name: str, start: int = 0, end: int | None = None) -> bytes:
        found = own(self, name, start, end)
        read.append(len(found) if start and name.endswith(".safetensors") else 0)
        return found

    monkeypatch.setattr("hubmerge.heterogeneous.stream_kin.SAMPLED", 40)
    monkeypatch.setattr(LocalFolder, "read", counted)
    kept = planned(pleas("./words", "./tuned-words-float32"))
    assert kept.stages.residual == "keep"
    assert kept.kept["res"].endswith("as relatives' have")
    assert read.count(40 * 4) == 2  # of either model the middle of one tensor
    read.clear()
    planned(pleas("./words", "./tuned-words-float32", "./other-words"))
    assert read.count(40 * 4) == 3  # the base's once
    assert planned(pleas("./words", "./other-words")).stages.residual == "orthogonal"


def test_gains_too_small_for_their_shifts_keep_the_order_and_are_refused_where_turning_is_asked_for(
    models: Path,
) -> None:
    model = AutoModelForCausalLM.from_pretrained(models / "more")
    model.transformer.ln_f.bias.data[:] = 0.1
    model.transformer.ln_f.weight.data[2] = 0.01
    model.save_pretrained(models / "quiet")
    model.transformer.ln_f.weight.data[2] = 0
    model.save_pretrained(models / "silent")
    for name in ("./quiet", "./silent"):
        plan = planned(pleas("./positions", name))
        assert plan.stages.residual == "keep"
        assert plan.kept["res"].endswith(
            f"as strangers' have, but transformer.ln_f.weight of {name} has gains too small for its shifts to be turned"
        )
    assert planned(pleas("./positions", "./quiet", residual="orthogonal")).kept["res"] == TURNED
    assert refusal(pleas("./positions", "./silent", residual="orthogonal")) == (
        "tensor 'transformer.ln_f.weight' of ./silent has a gain of 0, behind which a rotation of the residual stream is none · "
        "align.residual · write residual: keep"
    )
    carried = {
        "merge_method": "transport",
        "base_model": "./positions",
        "models": [{"model": "./quiet", "base": "./silent"}],
        "align": "weights",
    }
    assert planned(carried).stages.residual == "orthogonal"


def test_a_carried_stream_stays_where_it_is_asked(tmp_path: Path) -> None:
    recipe: dict[str, Any] = {
        "merge_method": "transport",
        "base_model": "./words",
        "models": [{"model": "./tuned-words-float32", "base": "./other-words"}],
        "align": {"method": "weights", "without": ["res"]},
    }
    plan = planned(recipe)
    assert plan.kept["res"] == "align.without names it"
    record = hubmerge.merge(recipe, tmp_path / "out").assembly
    assert record is not None
    assert (record.residual, record.cost.parameters) == ("keep", plan.cost.parameters)
    recipe["align"]["residual"] = "orthogonal"
    assert (
        refusal(recipe)
        == "without leaves res in its order, residual: orthogonal turns it · align · write one of the two"
    )


def test_where_no_token_is_shared_nothing_tells_of_a_relative() -> None:
    plan = planned(pleas("./tokens", "./tokens-none"))
    assert plan.kept["res"] == f"{TURNED}; nothing in it tells that ./tokens-none is a relative"


def test_rows_of_tokens_that_stand_elsewhere_tell_relatives_too() -> None:
    """The same embeddings in another order of tokens, and with tokens of its own."""
    plan = planned(pleas("./tokens", "./tokens-moved"))
    assert plan.kept["res"].endswith("has a cosine of 1.00 with that of ./tokens-moved, as relatives' have")
    assert planned(pleas("./tokens", "./tokens-strange")).stages.residual == "orthogonal"


@pytest.mark.parametrize(
    ("names", "align", "residual"),
    [
        (("./words", "./other-words"), {"residual": "keep"}, "keep"),
        (("./words", "./other-words"), {"without": ["res"]}, "keep"),
        (("./words", "./other-words"), {"method": "identity"}, "keep"),
        (("./bert-left", "./bert-right"), {}, None),
        (("./words", "./deeper-words"), {}, "keep"),
    ],
)
def test_streams_stay_where_it_is_asked_or_nothing_else_can_be(
    names: tuple[str, str], align: dict[str, Any], residual: str | None
) -> None:
    plan = planned(pleas(*names, **align))
    assert plan.stages.residual == residual
    assert not plan.kept["res"].startswith(TURNED)
    assert plan.notes == ()


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


@pytest.mark.parametrize("residual", ["keep", "orthogonal"])
@pytest.mark.parametrize("names", [("./words", "./stored-twice"), ("./stored-twice", "./words")])
def test_a_tied_head_that_is_stored_all_the_same_is_the_embeddings(
    names: tuple[str, str], residual: str, models: Path, tmp_path: Path
) -> None:
    if not (models / "stored-twice").exists():
        shutil.copytree(models / "other-words", models / "stored-twice")
        stored = load_file(models / "stored-twice" / WEIGHTS)
        embeddings = stored["model.embed_tokens.weight"]
        save_file({**stored, "lm_head.weight": embeddings.clone()}, models / "stored-twice" / WEIGHTS, {"format": "pt"})
    recipe = pleas(*names, residual=residual)
    plan = planned(recipe)
    manifest = hubmerge.merge(recipe, tmp_path / "out")
    once = planned(pleas("./words", "./other-words", residual=residual))
    assert plan.cost.parameters == once.cost.parameters == manifest.parameters
    assert plan.tensor_count == once.tensor_count == manifest.tensors["merged"]
    assert ways_of(*(open_parent(ModelRef.of(name)).record for name in names)).whole
