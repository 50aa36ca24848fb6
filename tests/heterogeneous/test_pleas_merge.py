"""A recipe for unlike models carried out: the folder, its manifest, the same bytes again, and what is left when it goes wrong."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bad.models import hubmerge as command
from pleas_models import bert, files_of, images, pleas, resnet, vit
from safetensors.numpy import load_file
from transformers import AutoModelForImageClassification

import hubmerge
from hubmerge import AutoMergedModel, MergeError, PlanError, read_manifest, verify_merge
from hubmerge.errors import MergeInterrupted, NumbersError
from hubmerge.heterogeneous import execute as carrying_out
from hubmerge.heterogeneous import telling
from hubmerge.manifest import Manifest

UNION = {"widths": "union", "ratio": 0.5}

pytestmark = pytest.mark.usefixtures("in_pleas_zoo")


@pytest.fixture(scope="module")
def union(pleas_zoo: Path) -> Path:
    """A union of low and high, made once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(pleas_zoo)
        hubmerge.merge(pleas(align=UNION, labels="disjoint"), "union")
    return pleas_zoo / "union"


def logits(folder: Path | str, values: np.ndarray) -> torch.Tensor:
    model = AutoModelForImageClassification.from_pretrained(folder).eval()
    with torch.no_grad():
        found: torch.Tensor = model(pixel_values=torch.from_numpy(values)).logits
    return found


def test_the_folder_is_an_ordinary_checkpoint_of_the_planned_sizes(union: Path) -> None:
    assert sorted(path.name for path in union.iterdir()) == ["config.json", "hubmerge.json", "model.safetensors"]
    config = json.loads((union / "config.json").read_text())
    assert (config["embedding_size"], config["hidden_sizes"], config["dtype"]) == (6, [6, 9], "float32")
    assert list(config["id2label"].values()) == ["a", "b", "c", "d", "e"]
    assert load_file(union / "model.safetensors")["classifier.1.weight"].shape == (5, 9)
    values = np.load("images.npz")["pixel_values"]
    assert logits(union, values).isfinite().all()


def test_everything_kept_apart_and_nothing_fitted_is_both_models(pleas_zoo: Path, tmp_path: Path) -> None:
    """With ratio 1 the merge is the two models beside one another, up to the new statistics of its BatchNorms."""
    out = tmp_path / "out"
    hubmerge.merge(pleas(align={"widths": "union", "ratio": 1}, fit="none", labels="disjoint"), out)
    tensors = load_file(out / "model.safetensors")
    low, high = (load_file(pleas_zoo / name / "model.safetensors") for name in ("low", "high"))
    head = tensors["classifier.1.weight"]
    assert np.array_equal(head[:3, :6], low["classifier.1.weight"])
    assert not head[:3, 6:].any()
    rows = {tuple(row) for row in high["classifier.1.weight"].T.tolist()}
    assert {tuple(row) for row in head[3:, 6:].T.tolist()} == rows


def test_the_manifest_says_what_was_matched_how_far_and_on_which_data(union: Path) -> None:
    manifest = read_manifest(union)
    record = manifest.assembly
    assert record is not None
    assert (manifest.format_version, manifest.method, manifest.reproducible) == (2, "pleas", "tolerance")
    assert [(parent.reference, parent.role) for parent in manifest.parents] == [
        ("./low", "parent"),
        ("./high", "parent"),
    ]
    assert (record.order, record.weights, record.labels) == (("./low", "./high"), (1.0, 1.0), "disjoint")
    assert (record.align, record.widths, record.ratio, record.fit) == ("activations", "union", 0.5, "least_squares")
    first = record.groups["res1"]
    assert (first.row, first.sizes, first.merged, first.matched) == ("res{s+1}", (4, 4), 6, (2,))
    assert 0 < first.similarity[0] <= 1
    assert record.cost.multiply_adds > record.cost_without_zeros.multiply_adds > record.base_cost.multiply_adds
    assert record.calibration is not None
    assert (record.calibration.data, record.calibration.kind, record.calibration.samples) == (
        "./images.npz",
        "pixels",
        8,
    )
    assert {"torch", "transformers", "scipy", "numpy"} <= manifest.versions.keys()
    assert set(manifest.files) == {"config.json", "model.safetensors"}
    assert manifest.parameters == sum(
        values.size for values in load_file(union / "model.safetensors").values() if values.dtype.kind == "f"
    )


def test_the_plan_foretold_sizes_and_costs(union: Path) -> None:
    plan = hubmerge.build_plan(pleas(align=UNION, labels="disjoint"))
    record = read_manifest(union).assembly
    assert record is not None
    assert {group.name: group.merged for group in plan.groups} == {name: g.merged for name, g in record.groups.items()}
    for planned, made in (
        (plan.cost, record.cost),
        (plan.base_cost, record.base_cost),
        (plan.blocks, record.cost_without_zeros),
    ):
        assert planned.multiply_adds == made.multiply_adds


def test_the_same_merge_has_the_same_bytes(union: Path, tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        hubmerge.merge(pleas(align=UNION, labels="disjoint"), tmp_path / "again")
    finally:
        torch.set_num_threads(threads)
    assert files_of(tmp_path / "again") == files_of(union)


def test_a_finished_merge_is_left_alone(union: Path, capsys: pytest.CaptureFixture[str], pleas_zoo: Path) -> None:
    (pleas_zoo / "recipe.yaml").write_text(json.dumps(pleas(align=UNION, labels="disjoint")))
    before = (union / "model.safetensors").stat().st_mtime_ns
    assert command("merge", "recipe.yaml", "union") == 0
    assert capsys.readouterr().out.startswith("already done: union holds this merge (plan ")
    assert (union / "model.safetensors").stat().st_mtime_ns == before


def test_other_data_under_the_same_name_is_another_merge(union: Path, pleas_zoo: Path) -> None:
    kept = (pleas_zoo / "images.npz").read_bytes()
    values = np.load("images.npz")["pixel_values"]
    try:
        np.savez("images.npz", pixel_values=values + 1)
        with pytest.raises(PlanError) as refused:
            hubmerge.merge(pleas(align=UNION, labels="disjoint"), "union")
        assert str(refused.value) == (
            "union exists and is this merge, of parents or calibration data that have changed since · union · --overwrite replaces it"
        )
        (derivation,) = (check for check in verify_merge("union", reload=False).checks if check.name == "derivation")
        assert derivation.detail == "not tried: the calibration data changed since the merge"
    finally:
        (pleas_zoo / "images.npz").write_bytes(kept)


def test_a_merge_is_told_stage_by_stage(tmp_path: Path, capsys: pytest.CaptureFixture[str], pleas_zoo: Path) -> None:
    (pleas_zoo / "recipe.yaml").write_text(json.dumps(pleas(labels="disjoint")))
    assert command("merge", "recipe.yaml", str(tmp_path / "out")) == 0
    told = capsys.readouterr()
    assert told.err.splitlines() == [
        "an interrupted merge of this kind is not gone on with: the same command begins anew",
        "loading ./low",
        "loading ./high",
        "matching by activations, merging, fitting every layer",
        "writing",
        f"next: hubmerge verify {tmp_path / 'out'}",
    ]
    lines = told.out.splitlines()
    assert lines[0].startswith(f"{tmp_path / 'out'}: 38 tensors (38 merged), ")
    assert lines[1].startswith("  res{s+1} (2 groups): 10 and 10 units become 10, 10 pairs merged, correlation 0.")
    assert lines[-1].startswith("  cost: 1.0")


def test_a_long_fit_tells_how_far_it_is() -> None:
    """A clock that is six seconds later at every layer: every second one is ten seconds after the last that was told."""
    told: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        seconds = iter(range(0, 100, 6))
        patch.setattr(telling.time, "monotonic", lambda: next(seconds))
        tell = telling.now_and_then(told.append)
        for layer in range(1, 8):
            tell(f"fitted {layer} of 7 layers")
    assert told == ["fitted 2 of 7 layers", "fitted 4 of 7 layers", "fitted 6 of 7 layers"]


@pytest.mark.parametrize("changes", [{"dtype": "bfloat16"}, {"output": {"shard_size": 3000}}])
def test_types_and_shards_are_the_recipe_s(tmp_path: Path, changes: dict[str, Any]) -> None:
    manifest = hubmerge.merge(pleas(labels="disjoint", **changes), tmp_path / "out")
    weights = [name for name in manifest.files if name.endswith(".safetensors")]
    if "dtype" in changes:
        assert manifest.dtype == json.loads((tmp_path / "out" / "config.json").read_text())["dtype"] == "bfloat16"
        assert manifest.files["model.safetensors"].size < 8000
    else:
        assert len(weights) > 1
        assert "model.safetensors.index.json" in manifest.files
    assert AutoModelForImageClassification.from_pretrained(tmp_path / "out")


def test_no_digest_leaves_out_the_weights_alone(tmp_path: Path) -> None:
    manifest = hubmerge.merge(pleas(labels="disjoint", align="identity", fit="none"), tmp_path / "out", digest=False)
    assert manifest.undigested == ("model.safetensors",)


def test_weights_alone_match_without_data(tmp_path: Path) -> None:
    resnet(tmp_path / "a", 0, ("x", "y"))
    resnet(tmp_path / "b", 1, ("x", "y"))
    recipe = pleas(f"{tmp_path}/a", f"{tmp_path}/b", align="weights", fit="none", calibration=None)
    manifest = hubmerge.merge(recipe, tmp_path / "out")
    assert manifest.assembly is not None
    assert manifest.assembly.calibration is None
    assert manifest.assembly.groups["res1"].matched == (4,)
    values = np.random.default_rng(1).standard_normal((2, 1, 16, 16)).astype(np.float32)
    assert logits(tmp_path / "out", values).isfinite().all()


def test_a_model_with_itself_is_itself_whatever_the_order_of_its_units(tmp_path: Path, pleas_zoo: Path) -> None:
    shutil.copytree(pleas_zoo / "low", tmp_path / "twin")
    out = tmp_path / "out"
    recipe = pleas("./low", f"{tmp_path}/twin", fit="none", labels="shared", align="weights", calibration=None)
    hubmerge.merge(recipe, out)
    before, after = load_file(pleas_zoo / "low" / "model.safetensors"), load_file(out / "model.safetensors")
    assert before.keys() == after.keys()
    assert all(np.allclose(before[name], after[name], atol=1e-7) for name in before)


def test_verify_derives_it_again(union: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("verify", "union") == 0
    assert capsys.readouterr().out.splitlines() == [
        "files      ok       2 files have the size and sha256 of the manifest",
        "derivation ok       38 tensors derived again from the models and the calibration data: the same bytes",
        "reload     ok       ResNetForImageClassification loads, its outputs are finite",
        "union: verified, derived again from its parents, byte for byte",
    ]


def test_verify_without_a_reload_shows_no_bars_of_the_models_that_it_loads_to_derive_it_again(
    union: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from transformers.utils import logging

    logging.enable_progress_bar()
    assert command("verify", "union", "--no-reload") == 0
    assert capsys.readouterr().err == ""


def changed(union: Path, out: Path, by: float) -> None:
    """A copy in which the first entry of the head is another, with a manifest that says so."""
    from safetensors.numpy import save_file

    shutil.copytree(union, out)
    tensors = load_file(out / "model.safetensors")
    head = tensors["classifier.1.weight"].copy()
    head[0, 0] += by * np.abs(head).max()
    save_file({**tensors, "classifier.1.weight": head}, out / "model.safetensors", {"format": "pt"})
    from hubmerge.record import file_digest

    manifest = read_manifest(out)
    files = {**manifest.files, "model.safetensors": file_digest(out / "model.safetensors")}
    (out / "hubmerge.json").write_text(manifest.model_copy(update={"files": files}).to_json())


def test_verify_tells_last_digits_from_another_model(union: Path, tmp_path: Path) -> None:
    changed(union, tmp_path / "near", 1e-4)
    near = verify_merge(tmp_path / "near", reload=False)
    assert (near.passed, near.level) == (True, "tolerance")
    assert "largest difference 1.0e-04 of a tensor's largest entry" in near.checks[1].detail
    changed(union, tmp_path / "far", 0.5)
    far = verify_merge(tmp_path / "far", reload=False)
    assert not far.passed
    assert far.checks[1].detail.startswith("tensor 'classifier.1.weight' differs by 5.0e-01 from what its models give")


def test_a_recipe_is_loaded_by_way_of_a_folder_that_is_gone_afterwards(
    union: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    values = np.load("images.npz")["pixel_values"]
    model = AutoMergedModel.from_pretrained(pleas(align=UNION, labels="disjoint", name="both"))
    assert list(tmp_path.iterdir()) == []
    assert model.name_or_path == "both"
    with torch.no_grad():
        assert torch.equal(model(pixel_values=torch.from_numpy(values)).logits, logits(union, values))
    assert torch.equal(
        AutoMergedModel.from_pretrained(union)(pixel_values=torch.from_numpy(values)).logits, logits(union, values)
    )


def test_what_goes_along_is_the_base_s(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 1)):
        folder = resnet(tmp_path / name, seed, ("x", "y"))
        processor = {
            "image_processor_type": "ViTImageProcessor",
            "do_resize": False,
            "image_mean": [seed],
            "image_std": [1],
        }
        (folder / "preprocessor_config.json").write_text(json.dumps(processor))
        (folder / "notes.txt").write_text("mine")
    recipe = pleas(f"{tmp_path}/a", f"{tmp_path}/b", base_model=f"{tmp_path}/b", calibration=pleas()["calibration"])
    manifest = hubmerge.merge(recipe, tmp_path / "out")
    out = tmp_path / "out"
    assert (out / "preprocessor_config.json").read_bytes() == (tmp_path / "b" / "preprocessor_config.json").read_bytes()
    assert not (out / "notes.txt").exists()
    assert "preprocessor_config.json" in manifest.files
    assert manifest.config_donor == f"{tmp_path}/b"


def test_numbers_that_are_not_finite_leave_nothing(tmp_path: Path) -> None:
    folder = resnet(tmp_path / "a", 0, ("x", "y"))
    from safetensors.numpy import save_file

    tensors = load_file(folder / "model.safetensors")
    head = tensors["classifier.1.bias"].copy()
    head[0] = np.nan
    save_file({**tensors, "classifier.1.bias": head}, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(NumbersError) as stopped:
        hubmerge.merge(pleas("./high", str(folder), labels="disjoint"), tmp_path / "out")
    assert str(stopped.value) == (
        f"tensor 'classifier.1.bias' of {folder} has a number that is not finite · {folder} · "
        "the model is damaged; fetch or save it again; nothing was left behind"
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a"]


def test_numbers_too_large_for_the_type_leave_nothing(tmp_path: Path, pleas_zoo: Path) -> None:
    from safetensors.numpy import save_file

    shutil.copytree(pleas_zoo / "low", tmp_path / "large")
    tensors = load_file(tmp_path / "large" / "model.safetensors")
    head = tensors["classifier.1.bias"] + np.float32(1e6)
    save_file({**tensors, "classifier.1.bias": head}, tmp_path / "large" / "model.safetensors", {"format": "pt"})
    recipe = pleas("./high", f"{tmp_path}/large", labels="disjoint", dtype="float16", fit="none")
    with pytest.raises(NumbersError) as stopped:
        hubmerge.merge(recipe, tmp_path / "out")
    assert str(stopped.value) == (
        "tensor 'classifier.1.bias' of the merge has a number that is not finite · "
        "choose other data, a larger ridge, or a wider dtype; nothing was left behind"
    )
    assert not (tmp_path / "out").exists()


def test_an_interrupted_merge_begins_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(carrying_out, "merge_models", interrupt)
        with pytest.raises(MergeInterrupted) as stopped:
            hubmerge.merge(pleas(labels="disjoint"), tmp_path / "out")
    assert str(stopped.value) == "interrupted: nothing was left behind"
    assert list(tmp_path.iterdir()) == []
    partial = tmp_path / "out.partial"  # what a merge that was killed leaves
    partial.mkdir()
    plan = hubmerge.build_plan(pleas(labels="disjoint"))
    (partial / ".hubmerge-plan").write_text(plan.hash + "\n")
    (partial / "model-00001-of-00009.safetensors").write_bytes(b"half")
    hubmerge.merge(pleas(labels="disjoint"), tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "config.json",
        "hubmerge.json",
        "model.safetensors",
    ]
    assert not partial.exists()


def test_a_parent_that_changes_meanwhile_stops_the_merge(
    tmp_path: Path, pleas_zoo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(pleas_zoo / "low", tmp_path / "low")
    weights = tmp_path / "low" / "model.safetensors"
    merge_models = carrying_out.merge_models

    def and_touch(*models: Any, **options: Any) -> Any:
        os.utime(weights, ns=(1, 1))
        return merge_models(*models, **options)

    monkeypatch.setattr(carrying_out, "merge_models", and_touch)
    with pytest.raises(MergeError) as stopped:
        hubmerge.merge(pleas(f"{tmp_path}/low", "./high", labels="disjoint"), tmp_path / "out")
    assert stopped.value.message == "model.safetensors changed while it was merged"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["low"]


def test_a_merge_never_lands_on_its_parents(pleas_zoo: Path) -> None:
    with pytest.raises(PlanError) as refused:
        hubmerge.merge(pleas(labels="disjoint"), "low", overwrite=True)
    assert str(refused.value) == "low is the parent ./low, which a merge must not touch · low · choose another OUT"


def test_a_damaged_model_is_named(tmp_path: Path, pleas_zoo: Path) -> None:
    shutil.copytree(pleas_zoo / "low", tmp_path / "odd")
    config = json.loads((tmp_path / "odd" / "config.json").read_text())
    (tmp_path / "odd" / "config.json").write_text(json.dumps({**config, "architectures": ["NoSuchModel"]}))
    with pytest.raises(PlanError) as refused:
        hubmerge.merge(pleas("./high", f"{tmp_path}/odd", labels="disjoint"), tmp_path / "out")
    assert str(refused.value) == (
        f"the config names class 'NoSuchModel', which this transformers does not have · {tmp_path}/odd · "
        "upgrade transformers; models that bring their own code are not run; nothing was left behind"
    )


def test_data_of_another_size_than_the_models_take_is_told_of_the_model(tmp_path: Path) -> None:
    for i in (0, 1):
        vit(tmp_path / str(i), i, ("x", "y"), image_size=8, patch_size=4)
    with pytest.raises(MergeError) as stopped:
        hubmerge.merge(pleas(f"{tmp_path}/0", f"{tmp_path}/1"), tmp_path / "out")
    assert stopped.value.message.startswith(
        "it cannot be run on the calibration data (ValueError: Input image size (16*16)"
    )
    assert stopped.value.where == f"{tmp_path}/0"
    assert stopped.value.hint == "name data of the size and kind that all models take; nothing was left behind"


def test_texts_are_matched_and_fitted_too_and_a_tied_head_stays_tied(tmp_path: Path) -> None:
    words = ("<unk>", "one", "two", "and", "is", "three")
    first, second = bert(tmp_path / "first", 0, words), bert(tmp_path / "second", 1, words)
    (tmp_path / "texts.txt").write_text("one and two is three\ntwo and one\nthree is one and two\none\n")
    data = {"data": f"{tmp_path}/texts.txt", "samples": 4}
    recipe = pleas(str(first), str(second), calibration=data, align={"widths": "union", "ratio": 0.5})
    manifest = hubmerge.merge(recipe, tmp_path / "out")
    assert manifest.assembly is not None
    assert {name: group.merged for name, group in manifest.assembly.groups.items()} == {"head0": 2, "ff0": 18}
    assert manifest.assembly.kept.keys() == {"res"}
    assert (tmp_path / "out" / "tokenizer.json").read_bytes() == (first / "tokenizer.json").read_bytes()
    assert "cls.predictions.decoder.weight" not in load_file(tmp_path / "out" / "model.safetensors")
    assert verify_merge(tmp_path / "out").level == "exact"


def test_a_device_and_jobs_are_not_used_and_that_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], pleas_zoo: Path
) -> None:
    (pleas_zoo / "plain.yaml").write_text(json.dumps(pleas(labels="disjoint", align="identity", fit="none")))
    assert command("merge", "plain.yaml", str(tmp_path / "out"), "--device", "cuda", "--jobs", "2") == 0
    told = capsys.readouterr().err
    assert "pleas computes on the CPU: --device cuda is not used" in told
    assert "pleas computes on one thread, so that it comes out the same: --jobs 2 is not used" in told


def test_an_older_manifest_is_read_as_before_and_written_without_the_new_section(union: Path) -> None:
    raw = json.loads((union / "hubmerge.json").read_text())
    del raw["assembly"]
    old = Manifest.model_validate({**raw, "format_version": 1})
    assert json.loads(old.to_json()) == {**raw, "format_version": 1}


def test_images_are_the_same_however_they_come(tmp_path: Path, union: Path) -> None:
    """The digest is of what was drawn, not of its place."""
    recipe = pleas(align=UNION, labels="disjoint", calibration={"data": str(images(tmp_path)), "samples": 8})
    manifest = hubmerge.merge(recipe, tmp_path / "out")
    ours = read_manifest(union).assembly
    assert manifest.assembly is not None
    assert ours is not None
    assert manifest.assembly.calibration is not None
    assert ours.calibration is not None
    assert manifest.assembly.calibration.sha256 == ours.calibration.sha256
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == (union / "model.safetensors").read_bytes()
