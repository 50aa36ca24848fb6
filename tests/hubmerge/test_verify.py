"""verify: the digests of the manifest, derivation from the parents, and what it says when something is not as it was."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from zoo import random_values, recipe, run_hubmerge, write_model

from hubmerge import ManifestError, merge, verify, verify_derivation, verify_merge
from hubmerge.io.digests import file_sha256
from hubmerge.record import file_digest
from hubmerge.verification import Verification

TENSORS = {"w": random_values((6, 5), 1), "b": random_values((6,), 2), "n": np.arange(3)}
AS_THEY_WERE = "5 files have the size and sha256 of the manifest"
CARRIED = {"tokenizer.json": "{}", "generation_config.json": "{}", "vocab.txt": "a"}


def a_merge(place: Path, method: str = "linear", **rest: Any) -> Path:
    """Models a and b merged into out; the first carries three more files."""
    write_model(place / "a", TENSORS, files=CARRIED)
    write_model(place / "b", {**TENSORS, "w": random_values((6, 5), 3)})
    both, start = [place / "a", place / "b"], None if method == "linear" else place / "a"
    merge(recipe(method, both if start is None else both[1:], base=start, **rest), place / "out")
    return place / "out"


def check(folder: Path) -> Verification:
    return verify_merge(folder, reload=False)


def told(result: Verification) -> dict[str, tuple[bool | None, str]]:
    return {each.name: (each.passed, each.detail) for each in result.checks}


def record_as_it_is(folder: Path, name: str) -> None:
    """Write the digest of a changed file into the manifest, as somebody who hides a change would."""
    manifest = json.loads((folder / "hubmerge.json").read_text())
    manifest["files"][name] = file_digest(folder / name).model_dump()
    (folder / "hubmerge.json").write_text(json.dumps(manifest))


def change_weights(folder: Path, place: int, change: float) -> None:
    """Multiply one float32 of the weight file, counted from its end, by 1 + `change`, and hide it."""
    path = folder / "model.safetensors"
    raw = bytearray(path.read_bytes())
    values = np.frombuffer(raw, "<f4", offset=len(raw) - 4 * place, count=1)
    np.multiply(values, np.float32(1 + change), out=values)
    path.write_bytes(raw)
    record_as_it_is(folder, "model.safetensors")


@pytest.mark.parametrize("method", ["linear", "slerp", "task_arithmetic", "ties"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_an_entrywise_merge_is_derived_again_byte_for_byte(tmp_path: Path, method: str, dtype: str) -> None:
    result = check(a_merge(tmp_path, method, dtype=dtype, **({"t": 0.3} if method == "slerp" else {})))
    assert (result.level, result.passed) == ("exact", True)
    assert told(result) == {
        "files": (True, AS_THEY_WERE),
        "derivation": (True, "3 tensors derived again from the parents: the same bytes"),
    }


def test_several_weight_files_are_compared_each_at_its_place(tmp_path: Path) -> None:
    result = check(a_merge(tmp_path, output={"shard_size": 130}))
    assert (result.level, result.passed) == ("exact", True)


@pytest.mark.parametrize("change", [0.0, 1e-6])
def test_a_matrix_method_is_derived_again_within_its_tolerance(tmp_path: Path, change: float) -> None:
    out = a_merge(tmp_path, "iso_c")
    change_weights(out, 5, change)
    result = check(out)
    assert (result.level, result.passed) == ("tolerance", True)
    detail = told(result)["derivation"][1]
    assert detail.startswith("3 tensors derived again from the parents: largest difference ")
    assert ("difference 0.0e+00 of" in detail) == (change == 0)


def test_a_difference_beyond_the_tolerance_fails(tmp_path: Path) -> None:
    out = a_merge(tmp_path, "iso_c")
    change_weights(out, 5, 0.01)
    result = check(out)
    assert not result.passed
    assert result.level == "recorded"
    passed, detail = told(result)["derivation"]
    assert passed is False
    assert detail.startswith("tensor 'b' differs by ")
    assert detail.endswith(" from what its parents give · model.safetensors · merge again")


@pytest.mark.parametrize("digest", [True, False])
def test_a_number_that_is_not_finite_is_within_no_tolerance(tmp_path: Path, digest: bool) -> None:
    out = a_merge(tmp_path, "iso_c")
    merge(json.loads((out / "hubmerge.json").read_text())["recipe"], tmp_path / "again", digest=digest)
    change_weights(tmp_path / "again", 12, np.nan)
    result = check(tmp_path / "again")
    assert told(result)["derivation"][0] is False
    assert "differs by nan from what its parents give" in told(result)["derivation"][1]


@pytest.mark.parametrize("whose", ["out", "a"])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whose: str) -> None:
    out = a_merge(tmp_path)

    def refused(path: Path) -> str:
        if path == tmp_path / whose / "tokenizer.json":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return file_sha256(path)

    for module in (verify, verify_derivation):
        monkeypatch.setattr(module, "file_sha256", refused)
    result = told(check(out))
    if whose == "out":
        assert result["files"] == (False, "tokenizer.json cannot be read (Permission denied)")
    else:
        what = f"not tried: {tmp_path}/a/tokenizer.json cannot be read (Permission denied)"
        assert result == {"files": (True, AS_THEY_WERE), "derivation": (None, what)}


def test_a_read_that_the_system_cuts_short_is_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, preadv = a_merge(tmp_path), os.preadv
    monkeypatch.setattr(os, "preadv", lambda file, buffers, place: preadv(file, [buffers[0][:7]], place))
    assert check(out).level == "exact"


def test_an_entrywise_merge_tolerates_no_difference_at_all(tmp_path: Path) -> None:
    out = a_merge(tmp_path)
    change_weights(out, 5, 2e-7)
    result = check(out)
    assert not result.passed
    assert told(result)["derivation"] == (
        False,
        "tensor 'b' differs from what its parents give · model.safetensors · merge again",
    )


def test_a_flipped_bit_in_the_weights_is_found_by_its_digest(tmp_path: Path) -> None:
    out = a_merge(tmp_path)
    raw = bytearray((out / "model.safetensors").read_bytes())
    raw[-1] ^= 1
    (out / "model.safetensors").write_bytes(raw)
    result = check(out)
    assert (result.level, result.passed) == ("recorded", False)
    assert told(result) == {
        "files": (False, "model.safetensors was changed"),
        "derivation": (None, "not tried: the files are not those of the merge"),
    }


def test_every_changed_missing_and_stray_file_is_named(tmp_path: Path) -> None:
    out = a_merge(tmp_path)
    (out / "config.json").write_text((out / "config.json").read_text() + " ")
    (out / "tokenizer.json").unlink()
    shutil.copy(out / "model.safetensors", out / "adapter_model.safetensors")
    (out / "deep").mkdir()
    shutil.copy(out / "model.safetensors", out / "deep" / "other.safetensors")
    passed, detail = told(check(out))["files"]
    assert passed is False
    assert detail.split("; ") == [
        "config.json was changed",
        "tokenizer.json is missing",
        "adapter_model.safetensors does not belong to the merge",
        "deep/other.safetensors does not belong to the merge",
    ]


def test_a_card_and_notes_beside_the_merge_are_no_fault(tmp_path: Path) -> None:
    out = a_merge(tmp_path)
    for name in ("README.md", "LICENSE", "results.json"):
        (out / name).write_text("text")
    assert check(out).passed


def test_a_merge_whose_parents_are_gone_is_checked_by_its_digests_only(tmp_path: Path) -> None:
    out = a_merge(tmp_path)
    shutil.rmtree(tmp_path / "b")
    result = check(out)
    assert (result.level, result.passed) == ("recorded", True)
    passed, detail = told(result)["derivation"]
    assert passed is None
    assert detail.startswith(f"not tried, the parents are not as they were: {tmp_path}/b does not exist")


def test_a_merge_whose_parent_was_trained_again_is_checked_by_its_digests_only(tmp_path: Path) -> None:
    out = a_merge(tmp_path)
    write_model(tmp_path / "b", {**TENSORS, "w": random_values((6, 5), 4)})
    result = check(out)
    assert (result.level, result.passed) == ("recorded", True)
    assert told(result)["derivation"] == (None, f"not tried: {tmp_path}/b changed since the merge")


def test_a_parent_whose_files_beside_the_weights_changed_is_said_to_make_another_plan(tmp_path: Path) -> None:
    out = a_merge(tmp_path)
    (tmp_path / "a" / "tokenizer.json").write_text('{"version": 2}')
    result = check(out)
    assert (result.level, result.passed) == ("recorded", True)
    assert told(result)["derivation"] == (
        None,
        "not tried: the recipe makes another plan now; a parent's config or tokenizer, or hubmerge itself, changed",
    )


def test_a_merge_that_was_moved_is_still_derived_from_its_parents(tmp_path: Path) -> None:
    a_merge(tmp_path).rename(tmp_path / "elsewhere")
    assert check(tmp_path / "elsewhere").level == "exact"


def test_without_positioned_reads_the_answer_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    out = a_merge(tmp_path)
    for call in ("preadv", "pread"):
        monkeypatch.delattr(os, call)
    assert check(out).level == "exact"


def test_a_folder_that_is_no_merge_cannot_be_verified(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"no hubmerge\.json, so this is not a hubmerge merge"):
        verify_merge(write_model(tmp_path / "a", TENSORS))


def test_the_result_is_plain_data(tmp_path: Path) -> None:
    out = a_merge(tmp_path)
    assert check(out).to_dict() == {
        "folder": str(out),
        "level": "exact",
        "checks": (
            {"name": "files", "passed": True, "detail": AS_THEY_WERE},
            {
                "name": "derivation",
                "passed": True,
                "detail": "3 tensors derived again from the parents: the same bytes",
            },
        ),
        "passed": True,
    }


def test_the_command_line_exits_0_when_all_holds_and_1_when_not(tmp_path: Path) -> None:
    out = a_merge(tmp_path)
    right = run_hubmerge("verify", "out", "--no-reload", cwd=tmp_path)
    assert (right.returncode, right.stderr) == (0, "")
    assert right.stdout == (
        f"files      ok       {AS_THEY_WERE}\n"
        "derivation ok       3 tensors derived again from the parents: the same bytes\n"
        "out: verified, derived again from its parents, byte for byte\n"
    )
    (out / "config.json").write_text("{}")
    wrong = run_hubmerge("verify", "out", "--no-reload", cwd=tmp_path)
    assert wrong.returncode == 1
    assert wrong.stdout == (
        "files      FAILED   config.json was changed\n"
        "derivation skipped  not tried: the files are not those of the merge\n"
        "out: NOT what its manifest says\n"
    )
    none = run_hubmerge("verify", "a", "--no-reload", cwd=tmp_path)
    assert (none.returncode, none.stdout) == (1, "")
    assert none.stderr == (
        "error: no hubmerge.json, so this is not a hubmerge merge · a · name the OUT of `hubmerge merge`\n"
    )


def test_a_config_that_was_changed_together_with_its_digest_is_not_what_the_parents_give(tmp_path: Path) -> None:
    models = [write_model(tmp_path / name, {"w": random_values((4, 3), seed)}) for seed, name in enumerate("ab")]
    merge(recipe("linear", models), tmp_path / "out")
    config = tmp_path / "out" / "config.json"
    config.write_text(config.read_text().replace("llama", "mamba"))
    manifest = json.loads((tmp_path / "out" / "hubmerge.json").read_text())
    manifest["files"]["config.json"] = {
        "size": config.stat().st_size,
        "sha256": hashlib.sha256(config.read_bytes()).hexdigest(),
    }
    (tmp_path / "out" / "hubmerge.json").write_text(json.dumps(manifest))
    found = verify_merge(tmp_path / "out", reload=False)
    assert not found.passed
    assert [check.detail for check in found.checks if check.passed is False] == [
        f"config.json differs from what its parents give · {tmp_path / 'out'} · merge again"
    ]


def test_a_manifest_that_does_not_mention_the_weights_hides_nothing(tmp_path: Path) -> None:
    out = a_merge(tmp_path)
    manifest = json.loads((out / "hubmerge.json").read_text())
    del manifest["files"]["model.safetensors"]
    (out / "hubmerge.json").write_text(json.dumps(manifest))
    (out / "model.safetensors").unlink()
    assert told(check(out))["files"] == (False, "the manifest records no weights")


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
def test_a_file_that_is_neither_here_nor_in_the_manifest_is_missed(tmp_path: Path, name: str) -> None:
    out = a_merge(tmp_path)
    manifest = json.loads((out / "hubmerge.json").read_text())
    del manifest["files"][name]
    (out / "hubmerge.json").write_text(json.dumps(manifest))
    (out / name).unlink()
    result = check(out)
    assert (result.level, result.passed) == ("recorded", False)
    assert told(result)["derivation"] == (
        False,
        f"{name}, which its parents give, is missing · {out} · merge again",
    )


def test_a_manifest_that_hides_a_parent_fails(tmp_path: Path) -> None:
    out = a_merge(tmp_path)
    manifest = json.loads((out / "hubmerge.json").read_text())
    del manifest["parents"][1]
    (out / "hubmerge.json").write_text(json.dumps(manifest))
    assert told(check(out))["derivation"] == (False, "the manifest lists other parents than its recipe")


def without_digests(place: Path, **rest: Any) -> Path:
    """As `a_merge`, with --no-digest."""
    for name in ("a", "b"):
        write_model(place / name, TENSORS, files=CARRIED if name == "a" else {})
    merge(recipe("linear", [place / "a", place / "b"], **rest), place / "out", digest=False)
    return place / "out"


NOT_RECORDED = (
    "4 files have the size and sha256 of the manifest; 1 has its size, and no sha256 there (--no-digest): "
    "model.safetensors"
)


def test_a_merge_without_digests_is_derived_again_all_the_same(tmp_path: Path) -> None:
    result = check(without_digests(tmp_path))
    assert (result.level, result.passed) == ("exact", True)
    assert told(result) == {
        "files": (None, NOT_RECORDED),
        "derivation": (True, "3 tensors derived again from the parents: the same bytes"),
    }


def test_a_change_in_a_merge_without_digests_is_found_by_deriving_it_again(tmp_path: Path) -> None:
    out = without_digests(tmp_path)
    raw = bytearray((out / "model.safetensors").read_bytes())
    raw[-1] ^= 1
    (out / "model.safetensors").write_bytes(raw)
    result = check(out)
    assert not result.passed
    assert told(result)["derivation"] == (
        False,
        "tensor 'b' differs from what its parents give · model.safetensors · merge again",
    )
    os.truncate(out / "model.safetensors", len(raw) - 1)
    assert told(check(out))["files"] == (False, "model.safetensors was changed")


def test_a_merge_without_digests_whose_parents_are_gone_is_not_verified(tmp_path: Path) -> None:
    out = without_digests(tmp_path)
    shutil.rmtree(tmp_path / "b")
    result = check(out)
    assert (result.level, result.passed) == ("sizes", False)
    ended = run_hubmerge("verify", "out", "--no-reload", cwd=tmp_path)
    assert (ended.returncode, ended.stderr) == (1, "")
    assert ended.stdout.splitlines()[-1] == (
        "out: NOT verified: only its sizes are recorded, and it was not derived again"
    )
