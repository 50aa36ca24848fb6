"""Single layers merged from a recipe: the folder, its manifest, the same bytes again, and a search that is killed and gone on with."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bad.models import hubmerge as command
from mal_recipes import WHOLE, data, mal
from pleas_models import bert, files_of, saved
from safetensors.numpy import load_file
from transformers import ResNetForImageClassification

import hubmerge
from hubmerge import AutoMergedModel, PlanError, read_manifest, verify_merge
from hubmerge.errors import NumbersError
from hubmerge.heterogeneous import assemble_from_zoo, mal_execute, mal_resume
from hubmerge.layers_words import layers_told

pytestmark = pytest.mark.usefixtures("in_mal_zoo")


def test_the_merge_is_the_base_with_every_decision_in_its_manifest(merged: Path) -> None:
    manifest = read_manifest(merged)
    record = manifest.layers
    assert record is not None
    assert (manifest.format_version, manifest.method, manifest.assembly) == (4, "mal", None)
    assert [(parent.reference, parent.role) for parent in manifest.parents] == [
        ("./wide", "parent"), ("./deep", "parent"), ("./base", "base"),
    ]  # fmt: skip
    assert (record.order, record.layers, record.statistics) == (("./base", "./wide", "./deep"), 2, True)
    assert len(record.decisions) == 4
    assert {each.accepted for each in record.decisions} == {True, False}
    for each in record.decisions:
        assert (each.factor > 0) == each.accepted == (not each.why)
    assert record.losses is not None
    assert record.losses.merged <= 1.02 * record.losses.control
    assert (record.calibration is not None, record.noise) == (True, None)
    assert record.probe is not None
    assert (record.probe.labels, record.probe.samples) == ("digit", 8)
    base, own = load_file("base/model.safetensors"), load_file(merged / "model.safetensors")
    assert {name: values.shape for name, values in own.items()} == {name: values.shape for name, values in base.items()}
    assert np.array_equal(own["classifier.1.weight"], base["classifier.1.weight"])
    kept = sum(np.array_equal(values, base[name]) for name, values in own.items())
    assert manifest.tensors["kept"] == kept
    assert sum(manifest.tensors.values()) == len(own)
    before, after = (json.loads(Path(name, "config.json").read_text()) for name in ("base", "merged"))
    assert {**before, "dtype": None} == {**after, "dtype": None}


def test_it_is_what_is_made_in_memory(merged: Path) -> None:
    base, *donors = (ResNetForImageClassification.from_pretrained(name) for name in ("base", "wide", "deep"))
    with np.load("data.npz") as arrays:
        pixels, labels = torch.from_numpy(arrays["pixel_values"]), torch.from_numpy(arrays["digit"])
    probe = [{"pixel_values": pixels, "labels": labels}]
    done = assemble_from_zoo(
        base, donors, [{"pixel_values": pixels}], tau=0.2, eps=0.02, factors=(0.1, 0.3), probe=probe
    )
    own = load_file(merged / "model.safetensors")
    assert all(torch.equal(torch.from_numpy(own[name]), values) for name, values in done.model.state_dict().items())
    record = read_manifest(merged).layers
    assert record is not None
    assert [(each.layer, each.donor - 1, each.factor) for each in record.decisions] == [
        (each.layer, each.donor, each.factor) for each in done.decisions
    ]


def test_the_terminal_tells_how_much_was_taken_from_whom_and_the_losses(
    merged: Path, mal_zoo: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (mal_zoo / "recipe.yaml").write_text(json.dumps(WHOLE))
    assert command("merge", "recipe.yaml", str(tmp_path / "out")) == 0
    told = capsys.readouterr()
    record = read_manifest(merged).layers
    assert record is not None
    accepted = sum(each.accepted for each in record.decisions)
    assert told.err.splitlines() == [
        "loading ./base",
        "loading ./wide",
        "loading ./deep",
        "pairing layers and units on 8 samples",
        f"{accepted} of 4 turns accepted; writing",
        f"next: hubmerge verify {tmp_path / 'out'}",
    ]
    lines = told.out.splitlines()
    assert lines[0].startswith(f"{tmp_path / 'out'}: 38 tensors (")
    assert tuple(line.strip() for line in lines[1:]) == layers_told(record)
    assert lines[-1].startswith("  loss on the probe: base ")
    assert files_of(tmp_path / "out") == files_of(merged)


def test_verify_searches_again_and_finds_the_same_bytes(merged: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("verify", "merged") == 0
    assert capsys.readouterr().out.splitlines() == [
        "files      ok       2 files have the size and sha256 of the manifest",
        "derivation ok       38 tensors derived again from the models and the calibration data: the same bytes",
        "reload     ok       ResNetForImageClassification loads, its outputs are finite",
        "merged: verified, derived again from its parents, byte for byte",
    ]


def test_other_labels_under_the_same_name_are_another_merge(merged: Path, mal_zoo: Path) -> None:
    kept = (mal_zoo / "data.npz").read_bytes()
    try:
        data(mal_zoo, classes=2)
        (derivation,) = (check for check in verify_merge("merged", reload=False).checks if check.name == "derivation")
        assert derivation.detail == "not tried: the calibration data changed since the merge"
        with pytest.raises(PlanError) as refused:
            hubmerge.merge(WHOLE, "merged")
        assert refused.value.message.endswith("of parents or calibration data that have changed since")
    finally:
        (mal_zoo / "data.npz").write_bytes(kept)


def test_on_noise_with_no_drift_allowed_the_merge_is_the_base_bit_for_bit(tmp_path: Path) -> None:
    manifest = hubmerge.merge(mal(parameters={"tau": 0, "factors": [0.1]}), tmp_path / "out")
    base, own = load_file("base/model.safetensors"), load_file(tmp_path / "out" / "model.safetensors")
    assert all(np.array_equal(own[name], values) for name, values in base.items())
    assert manifest.layers is not None
    assert (manifest.layers.noise, manifest.layers.statistics, manifest.layers.losses) == (64, False, None)
    assert manifest.tensors == {"merged": 0, "estimated": 0, "kept": 38}
    assert manifest.warnings == ("no layer of any donor was accepted: this is the base model as it was",)
    assert layers_told(manifest.layers) == (
        "0 of 2 layers have something of a donor in them; 0 of 4 turns were accepted",
        "./wide: 0 of 2 layers merged",
        "./deep: 0 of 2 layers merged",
        "no probe: whether it became better or worse than the base was not measured",
    )
    (derivation,) = (
        check for check in verify_merge(tmp_path / "out", reload=False).checks if check.name == "derivation"
    )
    assert derivation.detail == "38 tensors derived again from the models: the same bytes"


def test_on_noise_statistics_are_merged_and_a_donor_needs_no_head(tmp_path: Path) -> None:
    own = {"embedding_size": 4, "hidden_sizes": [4, 6], "depths": [1, 1], "layer_type": "basic", "num_channels": 1}
    saved("ResNet", "Model", tmp_path / "body", 1, own, ())
    recipe = mal(f"{tmp_path}/body", parameters={"tau": 10, "factors": [0.2]})
    assert "2 turns, 1 share (0.2): at most 2 runs of a layer on 64 samples" in str(hubmerge.build_plan(recipe))
    manifest = hubmerge.merge(recipe, tmp_path / "out")
    assert manifest.layers is not None
    assert [each.factor for each in manifest.layers.decisions] == [0.2, 0.2]
    assert not manifest.layers.statistics
    assert (manifest.tensors["estimated"], sum(manifest.tensors.values())) == (0, 38)
    before, after = (load_file(place / "model.safetensors") for place in (Path("base"), tmp_path / "out"))
    name = "resnet.encoder.stages.0.layers.0.layer.0.normalization.running_mean"
    assert not np.array_equal(before[name], after[name])


def test_a_recipe_is_loaded_like_a_model(merged: Path) -> None:
    loaded = AutoMergedModel.from_pretrained(WHOLE)
    own = load_file(merged / "model.safetensors")
    assert all(torch.equal(torch.from_numpy(own[name]), values) for name, values in loaded.state_dict().items())


def test_a_long_search_tells_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    seconds = iter(range(0, 100, 6))
    monkeypatch.setattr("hubmerge.heterogeneous.telling.time.monotonic", lambda: next(seconds))
    kept: list[Any] = []
    follow = mal_execute._Followed(4, 1, kept.append, told.append)
    decisions = [
        mal_resume.Decision(1, 0, "layer", 0, None, 0, 0, 0, 0, None, None, accepted=i % 2 == 0) for i in range(4)
    ]
    for decision in decisions:
        follow(decision)
    assert kept == decisions[1:]
    assert told == ["3 of 4 turns: 2 accepted, 1 refused"]


def test_numbers_that_are_not_finite_leave_nothing(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    shutil.copytree("wide", tmp_path / "wide")
    tensors = load_file(tmp_path / "wide" / "model.safetensors")
    save_file(
        {**tensors, "classifier.1.bias": tensors["classifier.1.bias"] * np.nan},
        tmp_path / "wide" / "model.safetensors",
        {"format": "pt"},
    )
    with pytest.raises(NumbersError) as stopped:
        hubmerge.merge(mal(f"{tmp_path}/wide"), tmp_path / "out")
    assert stopped.value.hint == "the model is damaged; fetch or save it again; nothing was left behind"
    assert [path.name for path in tmp_path.iterdir()] == ["wide"]


def test_texts_on_noise_keep_a_tied_head_tied_and_the_tokenizer(tmp_path: Path) -> None:
    words = ("<unk>", "one", "two", "and", "is", "three")
    first, second = bert(tmp_path / "first", 0, words), bert(tmp_path / "second", 1, words)
    manifest = hubmerge.merge(
        mal(str(second), base_model=str(first), parameters={"tau": 10, "factors": [0.2]}), tmp_path / "out"
    )
    own, base = load_file(tmp_path / "out" / "model.safetensors"), load_file(first / "model.safetensors")
    assert own.keys() == base.keys()
    assert sum(manifest.tensors.values()) == len(own)
    assert manifest.tensors["merged"] > 0
    assert (tmp_path / "out" / "tokenizer.json").read_bytes() == (first / "tokenizer.json").read_bytes()
    assert verify_merge(tmp_path / "out").level == "exact"
