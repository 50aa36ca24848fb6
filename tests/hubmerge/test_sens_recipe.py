"""Sens-Merging as a recipe: data beside each model, what the plan says, what is recorded, kept, verified and refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    PreTrainedTokenizerFast,
    ResNetConfig,
    ResNetForImageClassification,
)
from zoo import write_adapter

from hubmerge import AutoMergedModel, MergedState, build_plan, merge, merge_state_dicts, verify_merge
from hubmerge.assemble import merge_plan
from hubmerge.errors import HubmergeError
from hubmerge.sensitivity import measured as measuring

WORDS = ("<s>", "</s>", "<unk>", "one", "two", "three", "and", "is")
TEXTS = {"a": ["one two three", "two and two is three"], "b": ["three is one", "one and one", "is"]}
TEXTS_USED = {"a": TEXTS["a"], "b": ["three is one", "one and one"]}


def language_model(seed: int) -> Any:
    """One model and models near it: seed 0 is the base."""
    config = LlamaConfig(
        vocab_size=len(WORDS), hidden_size=8, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=16, bos_token_id=0, eos_token_id=1,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = LlamaForCausalLM(config)
        torch.manual_seed(seed)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.1 * (seed > 0) * torch.randn(parameter.shape))
    return model.eval()


def tokenizer(words: tuple[str, ...] = WORDS) -> PreTrainedTokenizerFast:
    made = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=made, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("sens")
    for seed, name in enumerate(("base", "a", "b")):
        language_model(seed).save_pretrained(place / name)
        tokenizer().save_pretrained(place / name)
    for name, lines in TEXTS_USED.items():
        (place / f"{name}.txt").write_text("\n".join(lines) + "\n")
    return place


@pytest.fixture
def place(written: Path, tmp_path: Path) -> Path:
    shutil.copytree(written, tmp_path / "in")
    return tmp_path / "in"


def asked(place: Path, **parameters: Any) -> dict[str, Any]:
    return {
        "merge_method": "sens_merging",
        "base_model": str(place / "base"),
        "models": [
            {"model": str(place / "a"), "calibration": {"data": str(place / "a.txt"), "samples": 2}},
            {"model": str(place / "b"), "calibration": {"data": str(place / "b.txt"), "samples": 2}},
        ],
        "parameters": {"temperature": 0.05, **parameters},
    }


def faults_of(recipe: Any) -> list[str]:
    with pytest.raises(HubmergeError) as caught:
        build_plan(recipe)
    return [str(fault) for fault in caught.value.faults]


def test_the_plan_says_what_is_run_before_anything_is(place: Path) -> None:
    plan = build_plan(asked(place))
    found = str(plan).split("\n\n")
    (section,) = (part for part in found if part.startswith("run before"))
    assert section.splitlines()[1:] == [
        f"  {place}/a: 2 samples of {place}/a.txt, column text",
        f"  {place}/b: 2 samples of {place}/b.txt, column text",
        "  4 samples forwards and backwards, each by its own parent, one at a time",
        "  4 forwards: each parent on the data of the others",
        "  each parent is loaded twice, one at a time, in float32",
        "  takes at most about 8.86 kB beside torch and what runs between layers, and 2.05 kB of temporary files",
    ]
    assert plan.to_dict()["preparation"]["lines"][2] == section.splitlines()[3].strip()
    assert plan.hash != build_plan({**asked(place), "parameters": {"temperature": 0.1}}).hash


def test_a_recipe_gives_the_numbers_of_the_models_in_memory_and_records_them(place: Path, tmp_path: Path) -> None:
    manifest = merge(asked(place, inner="ties", density=0.8), tmp_path / "out")
    record = manifest.prepared
    assert record is not None
    tokens = tokenizer()
    calibration = [
        [{"input_ids": torch.tensor([tokens(text)["input_ids"]])} for text in TEXTS_USED[name]] for name in ("a", "b")
    ]
    parents = [language_model(1), language_model(2)]
    values = {"temperature": 0.05, "inner": "ties", "density": 0.8}
    found = merge_state_dicts("sens_merging", parents, language_model(0), values, calibration=calibration)
    assert isinstance(found, MergedState)
    assert list(record.layers) == ["lm_head", "model.embed_tokens", "model.layers.0", "model.layers.1", "model.norm"]
    for name, row in found.coefficients.items():
        layer = next(layer for layer in record.layers if name.startswith(f"{layer}."))
        assert record.layers[layer] == pytest.approx(row, rel=1e-5)
    for name, tensor in load_file(tmp_path / "out" / "model.safetensors").items():
        torch.testing.assert_close(tensor, found[name], rtol=1e-4, atol=1e-6)
    assert [own.samples for own in record.calibration] == [2, 2]
    assert [own.data for own in manifest.data] == [str(place / "a.txt"), str(place / "b.txt")]
    assert verify_merge(tmp_path / "out", reload=False).level == "exact"
    loaded = AutoMergedModel.from_pretrained(asked(place, inner="ties", density=0.8))
    torch.testing.assert_close(loaded.lm_head.weight.data, found["lm_head.weight"], rtol=1e-4, atol=1e-6)


def test_a_merge_that_goes_on_runs_no_model_again_and_a_finished_one_looks_at_its_data(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[str] = []
    own = measuring._own
    monkeypatch.setattr(
        measuring, "_own", lambda models, at, file: runs.append(models.names[at]) or own(models, at, file)
    )
    plan = build_plan(asked(place))

    def interrupt(_: int) -> None:
        raise OSError("stopped")

    with pytest.raises(HubmergeError, match="stopped"):
        merge_plan(plan, tmp_path / "out", progress=interrupt)
    merge_plan(plan, tmp_path / "out")
    assert runs == [str(place / "a"), str(place / "b")]
    assert merge_plan(plan, tmp_path / "out").already_done
    (place / "b.txt").write_text("two two\nthree and three\n")
    with pytest.raises(HubmergeError, match="is this merge, of parents or calibration data that have changed since"):
        merge_plan(build_plan(asked(place)), tmp_path / "out")
    found = verify_merge(tmp_path / "out", reload=False)
    assert found.checks[1].detail == "not tried: the calibration data changed since the merge"


def test_parents_with_adapters_are_run_as_base_and_change_together(place: Path, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    name = "model.layers.1.mlp.up_proj"
    factors = {
        f"{name}.lora_A.weight": random.normal(size=(2, 8)),
        f"{name}.lora_B.weight": random.normal(size=(16, 2)),
    }
    factors = {key: values.astype(np.float32) for key, values in factors.items()}
    write_adapter(place / "lora", factors, r=2, lora_alpha=4)
    dense = language_model(0)
    with torch.no_grad():
        a, b = (torch.from_numpy(factors[f"{name}.lora_{which}.weight"]) for which in "AB")
        dense.model.layers[1].mlp.up_proj.weight.add_(2 * b @ a)
    dense.save_pretrained(place / "dense")
    tokenizer().save_pretrained(place / "dense")
    found = []
    for number, model in enumerate((f"{place / 'base'}+{place / 'lora'}", str(place / "dense"))):
        recipe = asked(place)
        recipe["models"][0]["model"] = model
        record = merge(recipe, tmp_path / f"out{number}").prepared
        assert record is not None
        found.append(record)
    for layer, row in found[1].state["sensitivities"].items():
        assert found[0].state["sensitivities"][layer] == pytest.approx(row, rel=1e-4)


def test_parameters_that_the_checkpoint_has_in_parts_count_in_their_layer(tmp_path: Path) -> None:
    config = MixtralConfig(
        vocab_size=len(WORDS), hidden_size=8, intermediate_size=8, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, num_local_experts=2, max_position_embeddings=16, bos_token_id=0, eos_token_id=1,
    )  # fmt: skip
    made = []
    for seed, name in enumerate(("base", "a", "b")):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            made.append(MixtralForCausalLM(config))
        made[-1].save_pretrained(tmp_path / name)
        tokenizer().save_pretrained(tmp_path / name)
        (tmp_path / f"{name}.txt").write_text("one two three\n")
    assert "model.layers.0.mlp.experts.down_proj" in dict(made[0].named_parameters())
    assert "model.layers.0.block_sparse_moe.experts.1.w2.weight" in load_file(tmp_path / "a" / "model.safetensors")
    record = merge(asked(tmp_path), tmp_path / "out").prepared
    assert record is not None
    batch = {"input_ids": torch.tensor([tokenizer()("one two three")["input_ids"]])}
    found = merge_state_dicts("sens_merging", made[1:], made[0], {"temperature": 0.05}, calibration=[[batch], [batch]])
    assert isinstance(found, MergedState)
    assert record.state["sensitivities"].keys() == found.state["sensitivities"].keys()
    for layer, row in found.state["sensitivities"].items():
        assert record.state["sensitivities"][layer] == pytest.approx(row, rel=1e-4)


def test_a_damaged_parent_is_named_and_nothing_is_published(place: Path, tmp_path: Path) -> None:
    file = place / "b" / "model.safetensors"
    tensors = load_file(file)
    tensors["model.norm.weight"][3] = torch.nan
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(HubmergeError) as caught:
        merge(asked(place), tmp_path / "out")
    assert str(caught.value).startswith(f"tensor 'model.norm.weight' of {place}/b is not finite: entry 3 is nan")
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "out.partial").exists()


def test_models_without_data_and_data_that_means_nothing_are_told_together(place: Path) -> None:
    recipe = asked(place)
    del recipe["models"][0]["calibration"]
    recipe["models"][1]["calibration"] = {"data": str(place / "missing.txt")}
    (place / "empty.txt").write_text("\n\n")
    assert [fault.split(" · ")[:2] for fault in faults_of(recipe)] == [
        [f"sens_merging needs calibration, and {place}/a has none", "models[0].calibration"],
        [f"{place}/missing.txt does not exist", "models[1].calibration.data"],
    ]
    recipe["models"][0]["calibration"] = str(place / "empty.txt")
    recipe["models"][1]["calibration"] = {"data": str(place / "b.txt"), "labels": "kind"}
    assert [fault.split(" · ")[:2] for fault in faults_of(recipe)] == [
        [f"{place}/empty.txt has nothing in column 'text'", "models[0].calibration.data"],
        [
            f"{place}/b (LlamaForCausalLM) does not tell classes apart, and labels are numbers of classes",
            "models[1].calibration.labels",
        ],
    ]
    assert faults_of({**asked(place), "calibration": str(place / "a.txt")}) == [
        "sens_merging runs each model on data of its own · recipe: calibration · write calibration: under each of models"
    ]
    assert faults_of({**asked(place), "merge_method": "ties", "parameters": {}})[0].startswith(
        "calibration beside a model is for methods that run each model on its own data, which ties does not · "
        "recipe: models[0].calibration"
    )


def test_models_of_other_vocabularies_are_refused(place: Path) -> None:
    tokenizer((*WORDS[:-2], "is", "and")).save_pretrained(place / "b")
    (told,) = faults_of(asked(place))
    assert told == (
        f"{place}/a and {place}/b have different vocabularies, so that their logits cannot be compared · models · bring them to one "
        f"vocabulary first: merge_method: passthrough with the other alone, base_model: {place}/a and tokenizer_source: base"
    )


def test_a_classifier_needs_labels_and_is_merged_with_them(tmp_path: Path) -> None:
    config = ResNetConfig(embedding_size=4, hidden_sizes=[4, 4], depths=[1, 1], num_labels=3, layer_type="basic")
    random = np.random.default_rng(0)
    entries = []
    for seed, name in enumerate(("base", "a", "b")):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            ResNetForImageClassification(config).save_pretrained(tmp_path / name)
        pixels = random.normal(size=(4, 3, 16, 16)).astype(np.float32)
        np.savez(tmp_path / f"{name}.npz", pixel_values=pixels, kind=np.array([0, 1, 2, 0]))
        entries.append({"model": str(tmp_path / name), "calibration": {"data": str(tmp_path / f"{name}.npz")}})
    recipe = {"merge_method": "sens_merging", "base_model": str(tmp_path / "base"), "models": entries[1:]}
    assert [fault.split(" · ")[:2] for fault in faults_of(recipe)] == [
        [
            f"the calibration data of {tmp_path}/{name} has no labels, and the loss of ResNetForImageClassification needs them",
            f"models[{i}].calibration",
        ]
        for i, name in enumerate("ab")
    ]
    for entry in entries:
        entry["calibration"]["labels"] = "kind"
    record = merge(recipe, tmp_path / "out").prepared
    assert record is not None
    assert [own.labels for own in record.calibration] == ["kind", "kind"]
    assert all(abs(sum(row) - 2) < 1e-12 for row in record.layers.values())
    assert json.loads((tmp_path / "out" / "hubmerge.json").read_text())["format_version"] == 6
