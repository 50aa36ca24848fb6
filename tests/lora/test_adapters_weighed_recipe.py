"""Recipes that run adapters on their base and give an adapter: the numbers of base+adapter, what is planned, recorded, kept and refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from adapter_folders import PREFIX, read_lora, write_lora
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

import cards
import hubmerge
from hubmerge.assemble import merge_plan
from hubmerge.errors import HubmergeError, MergeInterrupted
from hubmerge.lora import execute
from hubmerge.manifest import read_manifest
from hubmerge.verify import verify_merge

WORDS = ("<s>", "</s>", "<unk>", "one", "two", "three", "and", "is")
TEXTS = {"a": "one two three\ntwo and two is three\n", "b": "three is one\none and one\n"}
SHAPES = {"self_attn.q_proj": (8, 8), "mlp.down_proj": (8, 12)}
NORM = "model.norm.weight"


def factors(seed: int, rank: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    drawn = np.random.default_rng(seed)
    return {
        f"model.layers.{layer}.{name}": (
            0.3 * drawn.standard_normal((rank, within)),
            drawn.standard_normal((out, rank)),
        )
        for layer in range(2)
        for name, (out, within) in SHAPES.items()
    }


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A language model, adapters a and b of ranks 2 and 3, a with a norm that was trained whole, a text file for each, and their merge."""
    place = tmp_path_factory.mktemp("weighed")
    config = LlamaConfig(
        vocab_size=len(WORDS), hidden_size=8, intermediate_size=12, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=16, bos_token_id=0, eos_token_id=1,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        LlamaForCausalLM(config).save_pretrained(place / "base")
    made = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=made, unk_token="<unk>").save_pretrained(place / "base")
    for seed, (name, text) in enumerate(TEXTS.items()):
        (place / f"{name}.txt").write_text(text)
        write_lora(
            place / name, factors(seed, 2 + seed), lora_alpha=4, base_model_name_or_path="./base", task_type="CAUSAL_LM"
        )
    tensors = load_file(place / "a" / "adapter_model.safetensors")
    tensors[f"{PREFIX}{NORM}"] = np.linspace(0.5, 1.5, 8, dtype=np.float32)
    save_file(tensors, place / "a" / "adapter_model.safetensors")
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(place)
        hubmerge.merge(asked(), place / "sens_merging")
    return place


@pytest.fixture(autouse=True)
def here(written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(written, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def asked(on: str = "", method: str = "sens_merging", **keys: Any) -> dict[str, Any]:
    """on: what stands before an adapter's name where models are merged."""
    quick = {"steps": 3, "learning_rate": 0.05, "batch": 2} if method == "adamerging" else {"temperature": 0.05}
    return {
        "merge_method": method,
        "models": [
            {"model": f"{on}./{name}", "calibration": {"data": f"./{name}.txt", "samples": 2}} for name in TEXTS
        ],
        "parameters": quick,
        **({"base_model": "./base"} if on else {"output": {"kind": "adapter"}}),
        **keys,
    }


@pytest.mark.parametrize("method", ["sens_merging", "adamerging"])
def test_the_adapter_on_its_base_is_the_merge_of_base_and_adapter(here: Path, method: str) -> None:
    out = here / method
    manifest = read_manifest(out) if out.exists() else hubmerge.merge(asked(method=method), out)
    expected = hubmerge.merge(asked("./base+", method), here / "dense").prepared
    assert manifest.prepared is not None
    assert expected is not None
    for layer, row in manifest.prepared.layers.items():
        np.testing.assert_allclose(row, expected.layers[layer], atol=1e-5)
    base, merged = (load_file(here / name / "model.safetensors") for name in ("base", "dense"))
    changed = {f"{name}.weight": b @ a for name, (a, b) in read_lora(out).items()}
    whole = load_file(out / "adapter_model.safetensors")[f"{PREFIX}{NORM}"]
    changed[NORM] = whole - base[NORM]
    assert len(changed) == 5
    for name, values in merged.items():
        np.testing.assert_allclose(base[name] + changed.get(name, 0), values, atol=1e-5, err_msg=name)
    assert manifest.format_version == 6
    assert manifest.prepared.parents == ("./a", "./b")
    assert [parent.reference for parent in manifest.parents] == ["./base", "./a", "./b"]
    assert "prepared" not in [path.name for path in out.iterdir()]
    derived = verify_merge(out, reload=False)
    assert (derived.passed, derived.level) == (True, "exact")
    assert derived.checks[1].detail == "4 modules derived again from the adapters: the same bytes"


def test_the_plan_says_what_is_run_before_anything_is() -> None:
    plan = hubmerge.build_plan(asked())
    (section,) = (part for part in str(plan).split("\n\n") if part.startswith("run before"))
    assert section.splitlines()[1:6] == [
        "  ./base+./a: 2 samples of ./a.txt, column text",
        "  ./base+./b: 2 samples of ./b.txt, column text",
        "  4 samples forwards and backwards, each by its own parent, one at a time",
        "  4 forwards: each parent on the data of the others",
        "  each parent is loaded twice, one at a time, in float32",
    ]
    assert plan.to_dict()["preparation"]["lines"][0] == section.splitlines()[1].strip()
    descent = str(hubmerge.build_plan(asked(method="adamerging")))
    assert "  the base and the model that is run, in float32, and of every parent its factors\n" in descent
    assert "temporary files" not in descent


def test_a_model_of_adapters_has_the_same_coefficients_and_its_card_shows_them(here: Path) -> None:
    dense = {key: value for key, value in asked(basis="knots").items() if key != "output"}
    manifest = hubmerge.merge(dense, here / "out")
    other = read_manifest(here / "sens_merging")
    assert manifest.prepared is not None
    assert other.prepared is not None
    assert manifest.prepared.layers == other.prepared.layers
    cards.write_card(here / "sens_merging")
    text = (here / "sens_merging" / "README.md").read_text()
    assert "| modules | number | rank in a | rank in b | rank of the merge | energy kept |" in text
    assert "| layer | a | b |" in text
    left, right = other.prepared.layers["model.layers.0"]
    (row,) = (line for line in text.splitlines() if line.startswith("| `model.layers.0` |"))
    assert [cell.split()[1] for cell in row.strip("|").split("|")[1:]] == [f"{left:.3f}", f"{right:.3f}"]
    assert "sens_merging is a LoRA adapter for a language model" in text


def test_coefficients_that_were_found_are_used_again_after_an_interruption(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = read_manifest(here / "sens_merging")

    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(execute, "write_into", interrupted)
        with pytest.raises(MergeInterrupted, match="the same command goes on from there"):
            hubmerge.merge(asked(), here / "out")
    notes: list[str] = []
    merged = merge_plan(hubmerge.build_plan(asked()), here / "out", note=notes.append)
    assert notes == ["the coefficients were found before, and are used again", "merging the adapters"]
    assert merged.manifest.prepared == whole.prepared
    assert merged.manifest.files == whole.files
    assert merge_plan(hubmerge.build_plan(asked()), here / "out").already_done
    (here / "b.txt").write_text("two is two\nand one\n")
    with pytest.raises(hubmerge.PlanError, match="of parents or calibration data that have changed since"):
        hubmerge.merge(asked(), here / "out")
    assert verify_merge(here / "out", reload=False).checks[1].detail == (
        "not tried: the calibration data changed since the merge"
    )


def test_what_cannot_be_run_is_refused_before_anything_is_read(here: Path) -> None:
    def told(recipe: dict[str, Any]) -> str:
        with pytest.raises(HubmergeError) as refused:
            hubmerge.build_plan(recipe)
        return str(refused.value)

    without = asked()
    del without["models"][1]["calibration"]
    assert told(without) == (
        "sens_merging needs calibration, and ./base+./b has none · models[1].calibration · "
        "name data of its own task: calibration: {data: file.parquet, labels: column}; texts need no labels"
    )
    labelled = asked(method="adamerging")
    labelled["models"][0]["calibration"] = {"data": "./a.txt", "labels": "kind"}
    assert told(labelled).startswith("adamerging takes no labels · models[0].calibration.labels · leave them out")
    for name in TEXTS:
        config = json.loads((here / name / "adapter_config.json").read_text())
        (here / name / "adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": None}))
    assert told(asked()) == (
        "sens_merging runs every adapter on its base, and neither the recipe nor an adapter says which that is · base_model · "
        "add base_model: the model that the adapters were trained on"
    )
    assert told(asked(base_model="./nowhere")).startswith("nowhere does not exist · ./nowhere · ")
