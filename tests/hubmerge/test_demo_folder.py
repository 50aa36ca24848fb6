"""The demo writes where it may, and removes only what it made."""

from __future__ import annotations

from pathlib import Path

import pytest

from hubmerge.demo.folder import MARKER, METHODS, STRANGERS_METHOD, DemoError, DemoFolder
from hubmerge.demo.recipes import write_recipes

HINT = "name another folder: hubmerge demo FOLDER"


def test_a_folder_that_no_demo_made_is_refused_and_left_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(DemoError) as refused:
        DemoFolder(tmp_path).prepare()
    assert str(refused.value) == f"the folder exists and was not made by the demo · {tmp_path} · {HINT}"
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_file_in_the_way_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "demo"
    file.write_text("mine")
    with pytest.raises(DemoError) as refused:
        DemoFolder(file).prepare()
    assert str(refused.value) == f"a file is in the way of the demo's folder · {file} · {HINT}"
    assert file.read_text() == "mine"


def test_a_parent_folder_that_is_a_file_is_refused_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    folder = tmp_path / "file" / "demo"
    with pytest.raises(DemoError) as refused:
        DemoFolder(folder).prepare()
    assert str(refused.value) == f"the folder cannot be written (Not a directory) · {folder} · {HINT}"


def test_a_plus_in_the_name_is_refused_because_references_read_it_as_an_adapter(tmp_path: Path) -> None:
    folder = tmp_path / "a+b"
    with pytest.raises(DemoError) as refused:
        DemoFolder(folder).prepare()
    assert str(refused.value) == f"a + in a folder's name reads as base+adapter · {folder} · {HINT}"
    assert not folder.exists()


@pytest.mark.parametrize("exists", [False, True])
def test_a_new_or_an_empty_folder_is_marked(tmp_path: Path, exists: bool) -> None:
    root = tmp_path / "deep" / "demo"
    if exists:
        root.mkdir(parents=True)
    DemoFolder(root).prepare()
    assert [path.name for path in root.iterdir()] == [MARKER]


def test_a_second_run_removes_what_the_first_made_and_keeps_everything_else(tmp_path: Path) -> None:
    demo = DemoFolder(tmp_path / "demo")
    demo.prepare()
    write_recipes(demo)
    for path in demo.own:
        if path.suffix:
            path.write_text("made by the first run")
        else:
            path.mkdir(parents=True)
            (path / "config.json").write_text("made by the first run")
    mine = [demo.root / "notes.txt", demo.root / "merged" / "mine" / "config.json", demo.root / "recipes" / "mine.yaml"]
    for path in mine:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("the user's")
    demo.prepare()
    assert [path for path in demo.own if path.exists()] == []
    left = {path for path in demo.root.rglob("*") if path.is_file()}
    assert left == {demo.root / MARKER, *mine, *(demo.recipe(method) for method in (*METHODS, STRANGERS_METHOD))}


def test_a_link_in_the_place_of_a_model_is_removed_but_not_what_it_points_to(tmp_path: Path) -> None:
    demo = DemoFolder(tmp_path / "demo")
    demo.prepare()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "model.safetensors").write_text("precious")
    demo.models.mkdir()
    demo.model("digits-base").symlink_to(elsewhere)
    demo.prepare()
    assert not demo.model("digits-base").is_symlink()
    assert (elsewhere / "model.safetensors").read_text() == "precious"
