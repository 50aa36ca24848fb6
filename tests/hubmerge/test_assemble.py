"""A merge as a whole: the folder it leaves, what it refuses, and what it leaves when it fails."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from zoo import PAIR, contents, names, random_values, read_model, recipe, run_hubmerge, two_models, write_model

from hubmerge import ManifestError, PlanError, assemble, build_plan, merge, read_manifest
from hubmerge.assemble import merge_plan


def write_recipe(place: Path, **rest: Any) -> Path:
    path = place / "recipe.yaml"
    path.write_text(json.dumps(recipe("linear", two_models(place), **rest)))
    return path


def test_the_folder_holds_weights_config_carried_files_and_the_manifest(tmp_path: Path) -> None:
    manifest = merge(recipe("linear", two_models(tmp_path)), tmp_path / "out")
    out = tmp_path / "out"
    assert names(out) == [
        "config.json", "generation_config.json", "hubmerge.json", "model.safetensors", "tokenizer.json",
    ]  # fmt: skip
    assert json.loads((out / "config.json").read_text())["dtype"] == "float32"
    merged = read_model(out)
    assert np.array_equal(merged["w"], PAIR["w"] * 1.5)
    assert merged["n"].tolist() == [0, 1, 2]
    assert manifest == read_manifest(out)
    assert manifest.tensors == {"merged": 2, "copied": 1, "averaged": 0, "counted": 0}
    for name, file in manifest.files.items():
        raw = (out / name).read_bytes()
        assert (file.size, file.sha256) == (len(raw), hashlib.sha256(raw).hexdigest())
    assert set(manifest.files) == set(names(out)) - {"hubmerge.json"}


def test_two_merges_of_the_same_recipe_leave_the_same_bytes_manifest_included(tmp_path: Path) -> None:
    asked = recipe("linear", two_models(tmp_path))
    merge(asked, tmp_path / "one")
    merge(asked, tmp_path / "two", jobs=1)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_several_weight_files_have_an_index_and_are_one_checkpoint(tmp_path: Path) -> None:
    manifest = merge(recipe("linear", two_models(tmp_path), output={"shard_size": 130}), tmp_path / "out")
    assert [name for name in manifest.files if name.startswith("model")] == [
        "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "model.safetensors.index.json",
    ]  # fmt: skip
    assert np.array_equal(read_model(tmp_path / "out")["w"], PAIR["w"] * 1.5)


def test_parents_in_several_files_are_read_through_their_index(tmp_path: Path) -> None:
    first = write_model(tmp_path / "first", PAIR, shards=[["w"], ["b", "n"]])
    second = write_model(tmp_path / "second", PAIR, shards=[["n", "w"], ["b"]])
    merge(recipe("linear", [first, second]), tmp_path / "out")
    assert np.array_equal(read_model(tmp_path / "out")["b"], PAIR["b"])


def test_a_finished_merge_is_already_done(tmp_path: Path) -> None:
    asked = recipe("linear", two_models(tmp_path))
    first = merge(asked, tmp_path / "out")
    written = (tmp_path / "out" / "model.safetensors").stat().st_mtime_ns
    assert merge(asked, tmp_path / "out") == first
    assert (tmp_path / "out" / "model.safetensors").stat().st_mtime_ns == written


def test_a_merge_that_lost_a_file_is_not_done(tmp_path: Path) -> None:
    asked = recipe("linear", two_models(tmp_path))
    merge(asked, tmp_path / "out")
    (tmp_path / "out" / "tokenizer.json").unlink()
    with pytest.raises(PlanError, match="exists and is this merge, but some of its files were removed or changed"):
        merge(asked, tmp_path / "out")
    merge(asked, tmp_path / "out", overwrite=True)
    assert (tmp_path / "out" / "tokenizer.json").read_text() == "{}"


def test_a_merge_of_another_plan_is_refused_and_replaced_when_asked(tmp_path: Path) -> None:
    folders = two_models(tmp_path)
    merge(recipe("linear", folders), tmp_path / "out")
    other = recipe("passthrough", folders[:1])
    with pytest.raises(PlanError) as refused:
        merge(other, tmp_path / "out")
    assert str(refused.value) == (
        f"{tmp_path}/out exists and is a merge of another plan · {tmp_path}/out · --overwrite replaces it"
    )
    merge(other, tmp_path / "out", overwrite=True)
    assert np.array_equal(read_model(tmp_path / "out")["w"], PAIR["w"])
    assert names(tmp_path) == ["a", "b", "out"]


def test_a_merge_of_parents_that_were_trained_again_is_not_done(tmp_path: Path) -> None:
    folders = two_models(tmp_path)
    merge(recipe("linear", folders), tmp_path / "out")
    write_model(folders[1], {**PAIR, "b": random_values((6,), 9)}, config=json.loads(_config(folders[1])))
    with pytest.raises(PlanError) as refused:
        merge(recipe("linear", folders), tmp_path / "out")
    assert str(refused.value) == (
        f"{tmp_path}/out exists and is this merge, of parents that have changed since · {tmp_path}/out · "
        "--overwrite replaces it"
    )


def test_a_change_of_one_number_that_no_sample_has_is_seen_in_a_parent_written_since(tmp_path: Path) -> None:
    folders = [write_model(tmp_path / name, {"w": random_values((2000,), i)}) for i, name in enumerate("ab")]
    asked, path, notes = recipe("linear", folders), folders[1] / "model.safetensors", []
    first = merge(asked, tmp_path / "out")
    before = contents(tmp_path / "out")
    path.write_bytes(path.read_bytes())
    assert merge_plan(build_plan(asked), tmp_path / "out", note=notes.append).manifest == first
    assert merge_plan(build_plan(asked), tmp_path / "out", note=notes.append).already_done
    told = f"a parent was written after {tmp_path}/out: it is derived again, to see whether it is the same"
    assert notes == [told], "once, since it is the same"
    raw = bytearray(path.read_bytes())
    raw[-4 * 1900 + 1] ^= 1  # entry 100; the samples are entries 0 to 63, 645 to 708, ...
    path.write_bytes(raw)
    with pytest.raises(PlanError, match="exists and is this merge, of parents that have changed since"):
        merge(asked, tmp_path / "out")
    assert contents(tmp_path / "out") == before
    assert merge(asked, tmp_path / "out", overwrite=True).files != first.files


def test_a_merge_whose_carried_files_are_others_by_now_is_not_done(tmp_path: Path) -> None:
    asked = recipe("linear", two_models(tmp_path))
    merge(asked, tmp_path / "out")
    (tmp_path / "a" / "generation_config.json").write_text('{"eos_token_id": 3}')
    with pytest.raises(PlanError, match="is this merge, of parents that have changed since"):
        merge(asked, tmp_path / "out")
    merge(asked, tmp_path / "out", overwrite=True)
    assert json.loads((tmp_path / "out" / "generation_config.json").read_text()) == {"eos_token_id": 3}


def test_a_carried_file_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = recipe("linear", two_models(tmp_path))
    merge(asked, tmp_path / "out")

    def refused(path: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(assemble, "file_digest", refused)
    with pytest.raises(PlanError) as fault:
        merge(asked, tmp_path / "out")
    where = f"{tmp_path}/a/generation_config.json"
    assert str(fault.value) == f"it cannot be read (Permission denied) · {where} · check its permissions"


def _config(folder: Path) -> str:
    return (folder / "config.json").read_text()


@pytest.mark.parametrize("kind", ["file", "folder", "folder with a broken manifest"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_what_is_no_merge_is_never_overwritten(tmp_path: Path, kind: str, overwrite: bool) -> None:
    out = tmp_path / "out"
    if kind == "file":
        out.write_text("mine")
    else:
        out.mkdir()
        (out / ("thesis.txt" if kind == "folder" else "hubmerge.json")).write_text("mine")
    with pytest.raises(PlanError) as refused:
        merge(recipe("linear", two_models(tmp_path)), out, overwrite=overwrite)
    what = "a file" if kind == "file" else "a folder that is no merge"
    assert str(refused.value) == (
        f"{out} exists and is {what} · {out} · choose another OUT; only a merge can be overwritten"
    )
    assert out.is_file() or len(names(out)) == 1


@pytest.mark.parametrize("out", [".", "sub/..", "/"])
def test_a_folder_that_holds_others_is_no_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, out: str) -> None:
    folders = two_models(tmp_path / "models")
    (tmp_path / "work" / "sub").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "work")
    with pytest.raises(PlanError, match="which cannot be replaced"):
        merge(recipe("linear", folders), out)


@pytest.mark.parametrize(
    ("out", "why"),
    [
        ("circle", "Too many levels of symbolic links"),
        ("circle/out", "Too many levels of symbolic links"),
        ("n" * 300 + "/out", "File name too long"),
        ("o\0ut", "embedded null byte"),
    ],
)
def test_an_out_that_the_system_refuses_is_told(tmp_path: Path, out: str, why: str) -> None:
    (tmp_path / "circle").symlink_to("elcric")
    (tmp_path / "elcric").symlink_to("circle")
    with pytest.raises(PlanError, match=rf"^OUT cannot be there \({why}\) · .* · choose another OUT$"):
        merge(recipe("linear", two_models(tmp_path)), tmp_path / out)


def test_an_empty_folder_becomes_the_merge(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    merge(recipe("linear", two_models(tmp_path)), tmp_path / "out")
    assert "hubmerge.json" in names(tmp_path / "out")
    assert names(tmp_path) == ["a", "b", "out"]


def test_a_link_stays_a_link_and_leads_to_the_merge(tmp_path: Path) -> None:
    (tmp_path / "disk" / "real").mkdir(parents=True)
    (tmp_path / "out").symlink_to(tmp_path / "disk" / "real")
    folders = two_models(tmp_path / "models")
    merge(recipe("linear", folders), tmp_path / "out")
    merge(recipe("passthrough", folders[:1]), tmp_path / "out", overwrite=True)
    assert (tmp_path / "out").is_symlink()
    assert names(tmp_path / "disk") == ["real"]
    assert read_manifest(tmp_path / "disk" / "real").method == "passthrough"


def test_without_digests_the_manifest_says_so_and_the_merge_is_done_all_the_same(tmp_path: Path) -> None:
    asked = recipe("linear", two_models(tmp_path))
    manifest = merge(asked, tmp_path / "out", digest=False)
    assert manifest.undigested == ("model.safetensors",)
    assert manifest.files["config.json"].sha256 is not None
    assert json.loads((tmp_path / "out" / "hubmerge.json").read_text())["files"]["model.safetensors"] == {
        "size": (tmp_path / "out" / "model.safetensors").stat().st_size,
        "sha256": None,
    }
    assert merge(asked, tmp_path / "out") == read_manifest(tmp_path / "out") == manifest
    merge(asked, tmp_path / "with")
    assert read_model(tmp_path / "out")["w"].tobytes() == read_model(tmp_path / "with")["w"].tobytes()


def without_positioned_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """What Windows lacks."""
    for call in ("preadv", "pread", "pwrite", "posix_fallocate", "sched_getaffinity"):
        monkeypatch.delattr(os, call)


@pytest.mark.parametrize("method", ["linear", "ties"])
def test_without_positioned_reads_and_writes_the_bytes_are_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    folders = two_models(tmp_path)
    asked = recipe(
        method, folders if method == "linear" else folders[1:], base=None if method == "linear" else folders[0]
    )
    asked["output"] = {"shard_size": 130}
    merge(asked, tmp_path / "here", jobs=2)
    without_positioned_calls(monkeypatch)
    merge(asked, tmp_path / "there", jobs=3)
    assert contents(tmp_path / "here") == contents(tmp_path / "there")


def test_the_command_line_says_done_already_done_and_refused(tmp_path: Path) -> None:
    write_recipe(tmp_path)
    first = run_hubmerge("merge", "recipe.yaml", "out", cwd=tmp_path)
    assert (first.returncode, first.stderr) == (0, "next: hubmerge verify out\n")
    assert first.stdout.startswith("out: 3 tensors (2 merged, 1 copied), ")
    again = run_hubmerge("merge", "recipe.yaml", "out", cwd=tmp_path)
    plan_hash = read_manifest(tmp_path / "out").plan_hash
    assert (again.returncode, again.stderr) == (0, "")
    assert again.stdout == f"already done: out holds this merge (plan {plan_hash[:12]})\n"
    write_recipe(tmp_path, own=[{"weight": 3}])
    other = run_hubmerge("merge", "recipe.yaml", "out", cwd=tmp_path)
    assert (other.returncode, other.stdout) == (1, "")
    assert other.stderr == "error: out exists and is a merge of another plan · out · --overwrite replaces it\n"


def test_the_command_line_names_a_nan_and_says_what_is_left(tmp_path: Path) -> None:
    write_recipe(tmp_path)
    broken = {**PAIR, "b": np.array([0, 0, 0, np.nan, 0, 0], "float32")}
    write_model(tmp_path / "b", broken, config=json.loads(_config(tmp_path / "b")))
    ended = run_hubmerge("merge", "recipe.yaml", "out", "--jobs", 1, cwd=tmp_path)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == (
        f"error: tensor 'b' of {tmp_path}/b is not finite: entry 3 is nan · {tmp_path}/b/model.safetensors · "
        "this parent is damaged; nothing was left behind\n"
    )
    assert names(tmp_path) == ["a", "b", "recipe.yaml"]


def test_a_folder_that_is_no_merge_has_no_manifest(tmp_path: Path) -> None:
    with pytest.raises(ManifestError) as refused:
        read_manifest(tmp_path)
    assert str(refused.value) == (
        f"no hubmerge.json, so this is not a hubmerge merge · {tmp_path} · name the OUT of `hubmerge merge`"
    )
    with pytest.raises(ManifestError) as absent:
        read_manifest(tmp_path / "out")
    assert str(absent.value) == (
        f"{tmp_path / 'out'} does not exist · {tmp_path / 'out'} · looked from {Path.cwd()}; name the OUT of `hubmerge merge`"
    )
