"""Publishing into a folder: all checks first, then everything or nothing."""

from __future__ import annotations

import hashlib
import json
import shutil

import pytest
from card_builders import card_of, image_model, merge_of

from cards import PublishError, publish, write_card
from hubmerge.errors import ManifestError
from hubmerge.manifest import read_manifest


@pytest.fixture
def merge(tmp_path):
    parent = card_of(image_model(tmp_path / "models" / "parent"), "license: mit")
    out = image_model(tmp_path / "out")
    merge_of(out, [parent])
    write_card(out)
    return out


def _tree(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


def _faults(*arguments, **options):
    with pytest.raises(PublishError) as caught:
        publish(*arguments, **options)
    return [str(fault) for fault in caught.value.faults]


def test_a_published_folder_holds_the_merge_its_card_and_no_path(merge, tmp_path):
    plan = publish(merge, tmp_path / "zoo-ties")

    published = _tree(tmp_path / "zoo-ties")
    assert sorted(published) == [
        "README.md",
        "config.json",
        "hubmerge.json",
        "model.safetensors",
        "preprocessor_config.json",
    ]
    assert published["model.safetensors"] == (merge / "model.safetensors").read_bytes()
    assert (tmp_path / "zoo-ties/model.safetensors").stat().st_nlink == 1
    assert not any(str(tmp_path).encode() in content for content in published.values())
    assert {file.name: (file.size, file.sha256) for file in plan.files} == {
        name: (len(content), hashlib.sha256(content).hexdigest()) for name, content in published.items()
    }
    assert plan.state == "new"
    assert plan.card["license"] == "mit"


def test_the_published_card_carries_the_new_name(merge, tmp_path):
    publish(merge, tmp_path / "zoo-ties")
    words = (tmp_path / "zoo-ties/README.md").read_text()
    assert "\n# zoo-ties\n\nzoo-ties is an image classifier" in words
    assert 'model_id = "./zoo-ties"' in words


def test_the_published_model_loads(merge, tmp_path):
    from transformers import AutoImageProcessor, AutoModelForImageClassification

    publish(merge, tmp_path / "zoo-ties")
    assert AutoModelForImageClassification.from_pretrained(tmp_path / "zoo-ties").config.num_labels == 3
    assert AutoImageProcessor.from_pretrained(tmp_path / "zoo-ties")


def test_a_dry_run_writes_nothing_and_tells_everything(merge, tmp_path):
    before = _tree(tmp_path)
    plan = publish(merge, tmp_path / "zoo-ties", dry_run=True)

    assert _tree(tmp_path) == before
    assert [(check.name, check.status) for check in plan.checks] == [
        ("files", "ok"),
        ("card", "warn"),
        ("private", "ok"),
        ("licence", "ok"),
    ]
    assert "model.safetensors" in str(plan)
    assert json.loads(json.dumps(plan.to_json()))["state"] == "new"


def test_publishing_again_does_nothing(merge, tmp_path):
    publish(merge, tmp_path / "zoo-ties")
    stamp = (tmp_path / "zoo-ties/model.safetensors").stat().st_mtime_ns
    assert publish(merge, tmp_path / "zoo-ties").state == "already published"
    assert (tmp_path / "zoo-ties/model.safetensors").stat().st_mtime_ns == stamp


def test_a_newer_card_replaces_an_earlier_publish_only_when_told_to(merge, tmp_path):
    target = tmp_path / "zoo-ties"
    publish(merge, target)
    card = merge / "README.md"
    card.write_text(card.read_text() + "\nMore words.\n")

    assert _faults(merge, target) == [
        (
            f"an earlier publish of this merge with other files is at {target} · {target}"
            f" · replace it with --overwrite, or name another folder"
        )
    ]
    assert publish(merge, target, overwrite=True).state == "replaces"
    assert "More words." in (target / "README.md").read_text()
    assert not list(tmp_path.glob("zoo-ties.*"))


def test_a_folder_of_something_else_is_never_replaced(merge, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    for overwrite in (False, True):
        (fault,) = _faults(merge, tmp_path / "mine", overwrite=overwrite)
        assert fault.startswith("something else is at")
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"


def test_all_failed_checks_are_reported_at_once(merge, tmp_path):
    config = json.loads((merge / "config.json").read_text())
    config["_name_or_path"] = "/home/me/secret"
    (merge / "config.json").write_text(json.dumps(config))
    (merge / "preprocessor_config.json").unlink()
    (merge / "README.md").unlink()

    faults = _faults(merge, tmp_path / "zoo-ties")
    assert faults == [
        f"config.json is not what hubmerge.json says: it was changed after the merge · {merge} · merge again",
        f"preprocessor_config.json is in hubmerge.json and not in the folder · {merge} · merge again",
        f"there is no README.md · {merge}/README.md · write it with `hubmerge card {merge}`",
        f"config.json holds a path /home/me/secret · {merge} · remove it from the parent it came from, and merge again",
    ]
    assert not (tmp_path / "zoo-ties").exists()


def test_one_changed_bit_of_a_weight_file_is_noticed(merge, tmp_path):
    raw = bytearray((merge / "model.safetensors").read_bytes())
    raw[-1] ^= 1
    (merge / "model.safetensors").write_bytes(raw)
    (fault,) = _faults(merge, tmp_path / "zoo-ties")
    assert fault.startswith("model.safetensors is not what hubmerge.json says")


def test_files_that_the_merge_did_not_make_stay_behind(merge, tmp_path):
    (merge / "notes.txt").write_text("mine")
    plan = publish(merge, tmp_path / "zoo-ties")
    warning = next(check for check in plan.checks if check.status == "warn")
    assert warning.message == "left out, since the merge did not make it: notes.txt"
    assert not (tmp_path / "zoo-ties/notes.txt").exists()


def test_texts_of_licences_that_lie_beside_the_merge_are_published_with_it(merge, tmp_path):
    for name in ("LICENSE", "LICENSE-org-base.txt", "NOTICE.md", "LICENSES.csv"):
        (merge / name).write_text(f"the text of {name}\n")
    plan = publish(merge, tmp_path / "zoo-ties")

    names = {file.name for file in plan.files}
    assert {"LICENSE", "LICENSE-org-base.txt", "NOTICE.md"} <= names
    assert (tmp_path / "zoo-ties/NOTICE.md").read_text() == "the text of NOTICE.md\n"
    (left,) = [check.message for check in plan.checks if check.name == "files" and check.status == "warn"]
    assert left == "left out, since the merge did not make it: LICENSES.csv"
    assert publish(merge, tmp_path / "zoo-ties").state == "already published"


def test_a_forbidding_licence_stops_it_and_a_missing_one_warns(merge, tmp_path):
    card_of(tmp_path / "models" / "parent", "license: cc-by-nd-4.0")
    (fault,) = _faults(merge, tmp_path / "zoo-ties")
    assert fault.startswith("a parent's licence forbids passing on derived models")

    card_of(tmp_path / "models" / "parent", "tags: [x]")
    write_card(merge)
    plan = publish(merge, tmp_path / "zoo-ties")
    (warning,) = (check for check in plan.checks if check.name == "licence")
    assert warning.status == "warn"
    assert warning.message.endswith("what is made from it (parent)")


def test_a_llama_licence_wants_its_name(merge, tmp_path):
    card_of(tmp_path / "models" / "parent", "license: llama3.1")
    write_card(merge)
    (fault,) = _faults(merge, tmp_path / "zoo-ties")
    assert fault.startswith("llama3.1 wants the model's name to begin with 'Llama', and it is 'zoo-ties'")
    assert publish(merge, tmp_path / "Llama-zoo").state == "new"


def test_a_bare_name_is_neither_a_folder_nor_a_repository(merge):
    assert _faults(merge, "zoo") == ["'zoo' is neither ./folder nor user/name · for a folder write ./zoo"]


def test_without_the_network_nothing_is_published_on_the_hub(merge):
    assert _faults(merge, "me/zoo") == ["HF_HUB_OFFLINE is set · me/zoo · unset it, or publish into ./folder"]


def test_what_is_for_the_hub_means_nothing_for_a_folder(merge):
    assert _faults(merge, "./x", public=True) == [
        "--public means nothing for a folder · ./x · name user/name on the Hub"
    ]


def test_a_whole_model_is_not_published_as_an_adapter(merge):
    assert _faults(merge, "./x", as_="adapter") == [
        f"this merge is a whole model, not an adapter · {merge} · publish it with --as dense or recipe"
    ]


def test_a_recipe_cannot_name_a_folder(merge, tmp_path):
    assert _faults(merge, "./x", as_="recipe") == [
        (
            f"a recipe can only name models on the Hub, and this parent is a folder · {tmp_path}/models/parent · "
            "publish the parent first and merge from there, or publish --as dense"
        )
    ]


def test_the_merge_and_the_target_must_not_lie_in_one_another(merge, tmp_path):
    for target in (merge / "inner", merge):
        assert any("lie in one another" in fault for fault in _faults(merge, target))


def test_a_folder_that_is_no_merge_is_refused(tmp_path):
    with pytest.raises(ManifestError, match="not a hubmerge merge"):
        publish(image_model(tmp_path / "model"), tmp_path / "x")


def test_a_disk_that_fills_up_leaves_nothing_behind(merge, tmp_path, monkeypatch):
    before = _tree(tmp_path)

    def full(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", full)
    target = tmp_path / "new" / "deeper" / "zoo-ties"
    assert _faults(merge, target) == [
        (
            f"the folder cannot be written (No space left on device) · {target} · "
            "nothing was published; make room or choose another place"
        )
    ]
    assert _tree(tmp_path) == before
    assert not (tmp_path / "new").exists()


def test_too_little_room_is_known_before_anything_is_written(merge, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(100, 90, 10))
    (fault,) = _faults(merge, tmp_path / "zoo-ties")
    assert "bytes are needed and 10 are free" in fault


def test_a_failed_replacement_puts_the_old_folder_back(merge, tmp_path, monkeypatch):
    from pathlib import Path

    target = tmp_path / "zoo-ties"
    publish(merge, target)
    before = _tree(target)
    (merge / "README.md").write_text((merge / "README.md").read_text() + "\nMore.\n")
    rename = Path.rename

    def failing(self, to):
        if self.name.endswith(".partial"):
            raise OSError(5, "Input/output error")
        return rename(self, to)

    monkeypatch.setattr(Path, "rename", failing)
    _faults(merge, target, overwrite=True)
    assert _tree(target) == before
    assert not list(tmp_path.glob("zoo-ties.*"))


def test_what_a_killed_run_left_is_cleared_and_a_strangers_folder_is_not(merge, tmp_path):
    partial = tmp_path / "zoo-ties.partial"
    partial.mkdir()
    (partial / "thesis.txt").write_text("years of work")
    assert _faults(merge, tmp_path / "zoo-ties") == [f"something else is in the way · {partial} · move it away"]
    assert (partial / "thesis.txt").exists()

    (partial / "thesis.txt").rename(partial / "config.json")
    publish(merge, tmp_path / "zoo-ties")
    assert not partial.exists()


def test_a_published_folder_can_be_published_again(merge, tmp_path):
    publish(merge, tmp_path / "zoo-ties")
    publish(tmp_path / "zoo-ties", tmp_path / "copy")
    assert read_manifest(tmp_path / "copy") == read_manifest(tmp_path / "zoo-ties")


@pytest.mark.parametrize(
    ("front", "what"),
    [
        (b"license: [", "the card's metadata is not YAML (while parsing a flow node)"),
        (b"- license", "the card's metadata is not a mapping"),
        (b"license: \xff", "README.md is not UTF-8 (byte 13)"),
        (b"[" * 5000, "the card's metadata is not YAML (maximum recursion depth exceeded"),
    ],
)
@pytest.mark.parametrize("dry_run", [False, True])
def test_a_card_that_cannot_be_read_is_a_failed_check(merge, tmp_path, front, what, dry_run):
    (merge / "README.md").write_bytes(b"---\n" + front + b"\n---\n# x\n")
    if dry_run:
        plan = publish(merge, tmp_path / "zoo-ties", dry_run=True)
        (found,) = [check.message for check in plan.failed]
    else:
        (found,) = _faults(merge, tmp_path / "zoo-ties")
    assert found.startswith(what)
    assert not (tmp_path / "zoo-ties").exists()


def test_metadata_that_only_the_hubs_own_class_refuses_are_a_failed_check(merge, tmp_path):
    card = merge / "README.md"
    card.write_text(card.read_text().replace("license: mit", "license: mit\n1: one"))
    (fault,) = _faults(merge, tmp_path / "zoo-ties")
    assert fault.startswith("the card's metadata cannot be read (")
    assert fault.endswith(f" · {card} · mend the YAML between the two lines of ---")


def test_a_folder_in_the_cards_place_is_a_failed_check(merge, tmp_path):
    card = merge / "README.md"
    card.unlink()
    card.mkdir()
    assert _faults(merge, tmp_path / "zoo-ties") == [
        f"README.md is a folder · {card} · move it away, and write the card anew"
    ]


def test_digests_that_the_merge_left_out_are_made_and_published(merge, tmp_path):
    whole = read_manifest(merge)
    files = {name: {**file.model_dump(), "sha256": None if name.endswith(".safetensors") else file.sha256}
             for name, file in whole.files.items()}  # fmt: skip
    text = json.dumps({**whole.model_dump(mode="json"), "files": files})
    (merge / "hubmerge.json").write_text(text)
    assert read_manifest(merge).undigested == ("model.safetensors",)

    publish(merge, tmp_path / "zoo-ties")
    assert read_manifest(tmp_path / "zoo-ties").files == whole.files
    assert (merge / "hubmerge.json").read_text() == text

    raw = (merge / "model.safetensors").read_bytes()
    (merge / "model.safetensors").write_bytes(raw + b"\0")
    faults = _faults(merge, tmp_path / "another")
    assert faults == [
        f"model.safetensors is not what hubmerge.json says: it was changed after the merge · {merge} · merge again"
    ]
    (merge / "model.safetensors").unlink()
    assert _faults(merge, tmp_path / "another") == [
        f"hubmerge.json has no sha256 of model.safetensors, and the file is not here to make one · {merge} · merge again"
    ]
