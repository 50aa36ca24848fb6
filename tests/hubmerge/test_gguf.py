"""GGUF files as parents: how they are named, what is refused, and that the numbers are transformers' own."""

from __future__ import annotations

from pathlib import Path

import pytest
from zoo import two_models

from hubmerge import PlanError, build_plan
from hubmerge.gguf import open_model
from zoo_index import ModelRef


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HUBMERGE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def refusal(name: Path | str) -> str:
    with pytest.raises(PlanError) as caught:
        open_model(ModelRef.of(str(name)))
    return str(caught.value)


def test_several_files_need_a_name_and_each_can_be_named(tmp_path: Path) -> None:
    folder = tmp_path / "b"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    for name in ("b.Q4_0.gguf", "b.Q8_0.gguf"):
        (folder / name).write_bytes(b"x")
    told = f"2 GGUF files and no safetensors weights · {folder} · name one: {folder}#b.Q4_0.gguf"
    assert refusal(folder) == told
    for spelled in (f"{folder}#b.Q8_0.gguf", f"{folder}/b.Q8_0.gguf"):
        assert refusal(spelled) == f"b.Q8_0.gguf is not a GGUF file · {spelled} · fetch it again"


def test_a_folder_with_safetensors_is_read_as_ever(tmp_path: Path) -> None:
    folder = two_models(tmp_path)[0]
    (folder / "a.gguf").write_bytes(b"GGUF")
    assert len(build_plan({"merge_method": "passthrough", "models": [{"model": str(folder)}]}).steps) == 3


def test_without_the_package_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "b.gguf").write_bytes(b"GGUF")
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    told = f"GGUF files are read with the package gguf · {tmp_path / 'b.gguf'} · pip install gguf"
    assert refusal(tmp_path / "b.gguf") == told


def test_a_damaged_file_is_refused_and_leaves_nothing_in_the_cache(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "b.gguf").write_bytes(b"GGUF" + b"\3\0\0\0" + b"\0" * 64)
    assert refusal(tmp_path / "b.gguf").startswith("transformers cannot convert this GGUF file (")
    assert list((cache / "gguf").iterdir()) == []
