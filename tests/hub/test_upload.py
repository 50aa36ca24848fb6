"""Uploads and commits with the real client."""

from __future__ import annotations

import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationCopy, CommitOperationDelete, HfApi
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.utils import get_session

from hub.small_models import files_of, model_files, packed, write_folder
from hub.wire import Refusal


def test_a_read_only_token_cannot_create_or_upload(hub, api):
    hub.add("ada/model")
    reader = HfApi(hub.url, token=hub.read_token)

    with pytest.raises(HfHubHTTPError, match="you must use a write token"):
        reader.create_repo("ada/new")
    with pytest.raises(HfHubHTTPError, match="you must use a write token"):
        reader.upload_file(path_or_fileobj=b"x", path_in_repo="x.txt", repo_id="ada/model")
    assert files_of(api, "ada/model") == [".gitattributes"]


def test_a_folder_is_uploaded_in_one_commit_and_its_weights_go_to_the_other_origin(hub, api, tmp_path):
    folder = write_folder(tmp_path / "model", model_files())
    api.create_repo("ada/model")

    commit = api.upload_folder(repo_id="ada/model", folder_path=folder)

    assert files_of(api, "ada/model") == [".gitattributes", "README.md", "config.json", "model.safetensors"]
    assert len(api.list_repo_commits("ada/model")) == 2
    assert commit.oid == api.model_info("ada/model").sha
    weights = (folder / "model.safetensors").read_bytes()
    assert hub.content("ada/model", "model.safetensors") == weights
    (put,) = hub.log.requests(origin="cdn")
    assert (put.method, put.received, put.authorized) == ("PUT", len(weights), False)


def test_an_unchanged_folder_is_uploaded_again_without_a_commit(hub, api, tmp_path):
    folder = write_folder(tmp_path / "model", model_files())
    api.create_repo("ada/model")
    first = api.upload_folder(repo_id="ada/model", folder_path=folder)
    hub.log.clear()

    assert api.upload_folder(repo_id="ada/model", folder_path=folder).oid == first.oid
    assert hub.log.requests(path_contains="/commit/") == ()
    assert hub.log.requests(origin="cdn") == ()


def test_a_large_file_goes_in_parts_that_are_joined(start_hub):
    hub = start_hub(part_size=1000)
    hub.add("ada/model")
    content = bytes(range(256)) * 10

    client = HfApi(hub.url, token=hub.token)
    client.upload_file(path_or_fileobj=content, path_in_repo="model.safetensors", repo_id="ada/model")

    assert hub.content("ada/model", "model.safetensors") == content
    assert [put.received for put in hub.log.requests(method="PUT", origin="cdn")] == [1000, 1000, 560]
    assert len(hub.log.requests(path_contains="/lfs/complete_multipart")) == 1


@pytest.mark.parametrize(
    ("path", "content", "lfs"),
    [
        ("model.safetensors", b"any", True),  # .gitattributes
        ("notes.txt", b"text", False),
        ("notes.txt", b"x" * 101, True),  # above the threshold
        ("picture", b"\x89PNG\0", True),  # binary
        ("umlaut.txt", "ä".encode() * 10, False),
        ("model.safetensors", b"", False),  # an empty file is never LFS
    ],
)
def test_what_becomes_an_lfs_file(start_hub, path, content, lfs):
    hub = start_hub(lfs_threshold=100)
    hub.add("ada/model")
    client = HfApi(hub.url, token=hub.token)
    client.upload_file(path_or_fileobj=content, path_in_repo=path, repo_id="ada/model")

    (found,) = client.get_paths_info("ada/model", path)
    assert (found.lfs is not None) == lfs
    assert found.size == len(content)


def test_one_commit_adds_copies_and_deletes(hub, api):
    hub.add("ada/model", {"old.txt": "old", "logs/a.txt": "a", "logs/b.txt": "b", "model.safetensors": packed()})
    operations = [
        CommitOperationAdd("new.txt", b"new"),
        CommitOperationCopy("old.txt", "copy.txt"),
        CommitOperationCopy("model.safetensors", "copy.safetensors"),
        CommitOperationDelete("old.txt"),
        CommitOperationDelete("logs/"),
    ]

    api.create_commit("ada/model", operations, commit_message="All at once")

    files = [".gitattributes", "copy.safetensors", "copy.txt", "model.safetensors", "new.txt"]
    assert files_of(api, "ada/model") == files
    assert hub.content("ada/model", "copy.txt") == b"old"
    assert hub.content("ada/model", "copy.safetensors") == packed()
    assert len(api.list_repo_commits("ada/model")) == 3


def test_deleting_what_is_not_there_is_refused_and_changes_nothing(hub, api):
    before = hub.add("ada/model").head.id

    with pytest.raises(HfHubHTTPError, match=r"missing\.txt does not exist"):
        api.delete_file("missing.txt", "ada/model")
    assert hub.repository("ada/model").head.id == before


def test_a_stale_parent_is_412_and_commits_nothing(hub, api):
    stale = hub.add("ada/model").head.id
    newest = hub.commit("ada/model", {"x.txt": "x"}).id
    operation = CommitOperationAdd("y.txt", b"y")

    with pytest.raises(HfHubHTTPError, match="A commit has happened since") as caught:
        api.create_commit("ada/model", [operation], commit_message="late", parent_commit=stale)
    assert caught.value.response.status_code == 412
    assert hub.repository("ada/model").head.id == newest

    api.create_commit("ada/model", [operation], commit_message="in time", parent_commit=newest)
    assert files_of(api, "ada/model") == [".gitattributes", "x.txt", "y.txt"]


def test_a_card_that_is_not_valid_is_refused_before_anything_is_uploaded(hub, api):
    hub.add("ada/model")
    card = b"---\nlicense: my-own\nbase_model: ./folder\n---\n"

    with pytest.raises(ValueError, match=r"Invalid metadata in README\.md") as caught:
        api.upload_file(path_or_fileobj=card, path_in_repo="README.md", repo_id="ada/model")
    assert '"license" must be one of [' in str(caught.value)
    assert '"base_model" with value "./folder" is not valid' in str(caught.value)
    assert hub.log.requests(path_contains="/commit/") == ()


def test_a_card_without_metadata_is_a_warning(hub, api):
    hub.add("ada/model")
    with pytest.warns(UserWarning, match="empty or missing yaml metadata in repo card"):
        api.upload_file(path_or_fileobj=b"# Title", path_in_repo="README.md", repo_id="ada/model")
    assert "README.md" in files_of(api, "ada/model")


def test_a_commit_that_skips_the_client_s_check_is_validated_too(hub):
    with pytest.raises(Refusal, match='"license" must be one of'):
        hub.add("ada/model", {"README.md": "---\nlicense: my-own\n---\n"})


def test_an_lfs_pointer_to_a_content_nobody_uploaded_is_refused(hub, api, tmp_path):
    hub.add("ada/theirs", {"model.safetensors": packed()})
    hub.add("ada/model")
    oid = hub.repository("ada/theirs").head.tree["model.safetensors"].sha256
    lines = (
        '{"key": "header", "value": {"summary": "s", "description": ""}}\n'
        '{"key": "lfsFile", "value": {"path": "m.safetensors", "algo": "sha256", "oid": "' + oid + '"}}\n'
    )
    address = f"{hub.url}/api/models/ada/model/commit/main"
    answer = get_session().post(address, content=lines, headers={"authorization": f"Bearer {hub.token}"})
    assert (answer.status_code, "does not exist" in answer.text) == (400, True)


def test_an_upload_that_is_not_what_was_announced_is_refused(hub, api, monkeypatch):
    hub.add("ada/model")
    operation = CommitOperationAdd("model.safetensors", b"true content")
    monkeypatch.setattr(operation.upload_info, "_sha256", bytes(32))

    with pytest.raises(RuntimeError, match=r"Error while uploading 'model\.safetensors'"):
        api.create_commit("ada/model", [operation], commit_message="m")
    assert hub.log.requests(origin="cdn")[0].status == 400


def test_files_named_in_gitignore_are_left_out(hub, api, tmp_path):
    files = {
        ".gitignore": "*.log\n/checkpoints/\n# a comment\n",
        "a.txt": "a",
        "x/b.log": "b",
        "checkpoints/c.txt": "c",
    }
    hub.add("ada/model")
    api.upload_folder(repo_id="ada/model", folder_path=write_folder(tmp_path / "model", files))

    assert files_of(api, "ada/model") == [".gitattributes", ".gitignore", "a.txt"]
