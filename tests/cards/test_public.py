"""What leaves the machine: names of folders, never paths, never tokens."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from card_builders import merge_of
from hypothesis import given
from hypothesis import strategies as st

from cards.public import find_leaks, public_manifest, public_names, public_value
from hubmerge.manifest import Manifest, ParentRecord


def _manifest(tmp_path, *references, **changes):
    (tmp_path / "out").mkdir(exist_ok=True)
    return merge_of(tmp_path / "out", [Path(reference) for reference in references], **changes)


def test_folders_become_their_own_names_told_apart_by_number(tmp_path):
    manifest = _manifest(tmp_path, "/home/me/a/lora", "/home/me/b/lora", "/home/me/c")
    assert public_names(manifest) == {
        "/home/me/a/lora": "./lora",
        "/home/me/b/lora": "./lora-2",
        "/home/me/c": "./c",
    }


def test_two_spellings_of_one_folder_are_one_name(tmp_path):
    parents = tuple(ParentRecord(reference=spelling, role="parent") for spelling in ("./models/a", "models/a/"))
    manifest = _manifest(tmp_path, "/x", parents=parents)
    assert set(public_names(manifest).values()) == {"./a"}


def test_hub_parents_keep_their_ids_and_folders_spelt_like_ids_do_not(tmp_path):
    parents = (
        ParentRecord(reference="org/model", role="parent", commit="c" * 40),
        ParentRecord(reference="models/mine", role="parent", adapter="./adapters/lora"),
    )
    recipe = {"models": [{"model": "org/model"}, {"model": "models/mine+./adapters/lora"}], "base_model": "org/model"}
    public = public_manifest(_manifest(tmp_path, "/x", parents=parents, recipe=recipe, config_donor="org/model"))

    assert [parent.reference for parent in public.parents] == ["org/model", "./mine"]
    assert public.parents[1].adapter == "./lora"
    assert public.recipe == {"models": [{"model": "org/model"}, {"model": "./mine+./lora"}], "base_model": "org/model"}
    assert public.config_donor == "org/model"


def test_a_folder_spelt_like_a_word_is_not_taken_for_the_word(tmp_path):
    parents = tuple(ParentRecord(reference=name, role="parent") for name in ("./parent", "ties"))
    recipe = {"merge_method": "ties", "models": [{"model": "ties"}, {"model": "./parent"}], "name": "parent"}
    public = public_manifest(_manifest(tmp_path, "/x", parents=parents, recipe=recipe))

    assert [parent.role for parent in public.parents] == ["parent", "parent"]
    assert public.recipe == {
        "merge_method": "ties",
        "models": [{"model": "./ties"}, {"model": "./parent"}],
        "name": "parent",
    }
    assert public.method == "ties"


def test_nothing_but_references_changes(tmp_path):
    manifest = _manifest(tmp_path, "/home/me/a", warnings=("/home/me/a differs from /home/me/ab",))
    public = public_manifest(manifest)

    assert public.warnings == ("./a differs from /home/me/ab",)
    kept = ("plan_hash", "files", "tensors", "versions", "method", "seed", "parameters")
    assert all(getattr(public, name) == getattr(manifest, name) for name in kept)
    assert [parent.headers for parent in public.parents] == [parent.headers for parent in manifest.parents]


def test_the_public_form_of_a_public_manifest_is_itself(tmp_path):
    public = public_manifest(_manifest(tmp_path, "/home/me/a", "/home/me/b", base=Path("/home/me/c")))
    assert public_manifest(public) == public
    assert "/home" not in public.to_json()
    assert Manifest.model_validate(json.loads(public.to_json())) == public


def test_other_local_paths_of_the_recipe_lose_their_folders():
    kept = {"name": "a ~/b", "paper": "https://arxiv.org/abs/2306.01708", "kind": "a/b/c"}
    value = {"calibration": {"data": "~/private/data.jsonl", "samples": 8}, **kept}
    assert public_value(value, {}) == {"calibration": {"data": "./data.jsonl", "samples": 8}, **kept}


@pytest.mark.parametrize(
    ("text", "leaks"),
    [
        ('{"_name_or_path": "/home/me/model"}', ["path /home/me/model"]),
        ("see ~/models/a", ["path ~/models"]),
        (r"C:\Users\me\model", ["path C:\\Users\\"]),
        (f"token: hf_{'aB3' * 10}", ["token hf_aB3…"]),
        ("loaded from /mnt/disk1/x.", ["path /mnt/disk1/x."]),
        ("https://huggingface.co/org/name and ./folder/x, a/b, 1/2, and/or", []),
        ("</s> <tool_call></tool_call> /think /no_think", []),
        ("from_pretrained('/path/to/model')", []),
        ("hf_hub_download", []),
    ],
)
def test_leaks_are_found_and_ordinary_text_is_not(text, leaks):
    assert find_leaks(text) == leaks


def test_a_vocabulary_is_searched_only_for_what_is_certainly_private():
    words = '{"/usr/lib/x": 1, "/home/ada/secret/out": 2}'
    assert find_leaks(words, data=True) == []
    assert find_leaks(words, data=True, private=["/home/ada/secret"]) == ["path /home/ada/secret"]


@given(st.lists(st.from_regex(r"/[a-z]{1,5}(/[a-z]{1,5}){1,3}", fullmatch=True), min_size=1, max_size=4, unique=True))
def test_every_folder_gets_a_name_of_its_own(paths):
    manifest = Manifest(
        hubmerge_version="0",
        plan_hash="p",
        recipe={"models": paths},
        method="linear",
        method_revision=1,
        parents=tuple(ParentRecord(reference=path, role="parent") for path in paths),
        config_donor=paths[0],
        dtype="float32",
        parameters=1,
        tensors={},
        files={},
    )
    public = public_manifest(manifest)
    names = [parent.reference for parent in public.parents]
    assert len(set(names)) == len(paths)
    assert public.recipe["models"] == names
    assert all(name.count("/") == 1 for name in names)
