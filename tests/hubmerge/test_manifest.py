"""hubmerge.json: what a merge says of itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from zoo import recipe, write_adapter, write_model

from hubmerge import Manifest, ManifestError, merge, read_manifest
from hubmerge.errors import shown
from hubmerge.manifest import _VERSIONS
from hubmerge.version import __version__

BASE = {"q.weight": np.eye(3, dtype="float32")}


def a_merge(place: Path) -> Manifest:
    folders = [write_model(place / name, BASE) for name in ("base", "a")]
    adapter = {"q.lora_A.weight": np.ones((1, 3), "float32"), "q.lora_B.weight": np.ones((3, 1), "float32")}
    write_adapter(place / "lora", adapter, r=1)
    models = [str(folders[1]), f"{folders[0]}+{place / 'lora'}"]
    return merge(recipe("ties", models, base=folders[0], own=[{"weight": 2}]), place / "out")


def test_a_manifest_says_what_was_merged_from_what_and_how(tmp_path: Path) -> None:
    manifest = a_merge(tmp_path)
    assert (manifest.method, manifest.method_revision, manifest.reproducible) == ("ties", 3, "exact")
    assert manifest.hubmerge_version == __version__
    assert manifest.recipe["models"][0] == {"model": str(tmp_path / "a"), "parameters": {"weight": 2}}
    assert manifest.tensors == {"merged": 1, "copied": 0, "averaged": 0, "counted": 0}
    assert (manifest.dtype, manifest.parameters) == ("float32", 9)
    by_name = {(Path(parent.reference).name, parent.adapter): parent for parent in manifest.parents}
    assert set(by_name) == {("a", None), ("base", str(tmp_path / "lora")), ("base", None)}
    assert by_name["a", None].role == "parent"
    assert by_name["base", None].role == "base"
    assert by_name["a", None].parameters == {"weight": 2}
    with_adapter = by_name["base", str(tmp_path / "lora")]
    assert set(with_adapter.headers) == {"model.safetensors", "adapter/adapter_model.safetensors"}
    assert with_adapter.sample != by_name["base", None].sample
    assert {"python", "numpy", "numba"} == set(manifest.versions)


def test_a_manifest_read_back_is_the_manifest_written(tmp_path: Path) -> None:
    written = a_merge(tmp_path)
    assert read_manifest(tmp_path / "out") == written
    assert (tmp_path / "out" / "hubmerge.json").read_text() == written.to_json()


def broken(tmp_path: Path, content: Any) -> str:
    text = content if isinstance(content, str) else json.dumps(content)
    (tmp_path / "hubmerge.json").write_text(text)
    with pytest.raises(ManifestError) as refused:
        read_manifest(tmp_path)
    return str(refused.value)


NEWEST = max(_VERSIONS)


def test_a_manifest_of_another_format_version_is_refused(tmp_path: Path) -> None:
    for content, version in (
        ({"format_version": 99}, "99"),
        ({"format_version": [1]}, "[1]"),
        ({}, "None"),
        ([], "None"),
    ):
        assert broken(tmp_path, content) == (
            f"hubmerge.json has format_version {version}, this hubmerge reads 1 to {NEWEST} · {tmp_path}/hubmerge.json · "
            "use the hubmerge that wrote it, or a newer one"
        )


def test_a_manifest_that_is_no_json_is_refused(tmp_path: Path) -> None:
    assert broken(tmp_path, "{") == (
        "hubmerge.json cannot be read (Expecting property name enclosed in double quotes: line 1 column 2 (char 1)) · "
        f"{tmp_path} · merge again"
    )


def test_a_manifest_with_a_missing_or_strange_field_names_it(tmp_path: Path) -> None:
    whole = json.loads(a_merge(tmp_path).to_json())
    lacking = {key: value for key, value in whole.items() if key != "plan_hash"}
    assert broken(tmp_path, lacking) == (
        f"hubmerge.json: Field required · {tmp_path}/hubmerge.json: plan_hash · merge again"
    )
    whole["files"]["config.json"]["colour"] = "red"
    assert broken(tmp_path, whole) == (
        f"hubmerge.json: Extra inputs are not permitted · {tmp_path}/hubmerge.json: files.config.json.colour · merge again"
    )


@pytest.mark.parametrize("name", ["/etc/passwd", "../a.txt", "a/../../b", "", "a\\b", "a\0b", "x" * 256])
def test_a_manifest_with_a_file_that_the_folder_cannot_hold_is_refused(tmp_path: Path, name: str) -> None:
    whole = json.loads(a_merge(tmp_path).to_json())
    whole["files"][name] = whole["files"]["config.json"]
    assert broken(tmp_path, whole) == (
        f"hubmerge.json: {shown(name)} is no file of this folder · {tmp_path}/hubmerge.json: files · merge again"
    )


def test_a_file_is_no_merge(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").touch()
    with pytest.raises(ManifestError) as refused:
        read_manifest(tmp_path / "recipe.yaml")
    assert str(refused.value) == (
        f"this is a file, not a merged folder · {tmp_path}/recipe.yaml · name the OUT of `hubmerge merge`"
    )
