"""Repositories as wholes with the real client: made, moved, deleted, their branches and tags."""

from __future__ import annotations

from pathlib import Path

import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError
from huggingface_hub.utils import get_session

from hub.small_models import files_of, model_files, write_folder


def test_a_repository_is_born_with_one_commit_that_holds_gitattributes(hub, api):
    url = api.create_repo("ada/new")

    assert (url.repo_id, url.endpoint) == ("ada/new", hub.url)
    assert files_of(api, "ada/new") == [".gitattributes"]
    assert [commit.title for commit in api.list_repo_commits("ada/new")] == ["initial commit"]
    assert hub.repository("ada/new").head.tree[".gitattributes"].size == 1519  # as on the real Hub


def test_a_repository_that_exists_is_409_and_exist_ok_accepts_it(hub, api):
    api.create_repo("ada/new")

    with pytest.raises(HfHubHTTPError) as caught:
        api.create_repo("ada/new")
    assert caught.value.response.status_code == 409
    assert api.create_repo("ada/new", exist_ok=True).repo_id == "ada/new"


@pytest.mark.parametrize("repo", ["bob/new", "unknown-org/new"])
def test_a_repository_of_somebody_else_is_403(hub, api, repo):
    with pytest.raises(HfHubHTTPError, match="you don't have the rights to write") as caught:
        api.create_repo(repo)
    assert caught.value.response.status_code == 403


def test_an_organisation_s_private_repository_is_made_by_its_member(hub, api):
    api.create_repo("acme/secret", private=True)

    assert api.model_info("acme/secret").private is True
    with pytest.raises(RepositoryNotFoundError):
        HfApi(hub.url, token=hub.other_token).model_info("acme/secret")


def test_branches_tags_and_refs(hub, api):
    first = hub.add("ada/model", {"a.txt": "a"}).head.id
    api.create_tag("ada/model", tag="v1")
    api.create_branch("ada/model", branch="next")
    api.upload_file(path_or_fileobj=b"b", path_in_repo="b.txt", repo_id="ada/model", revision="next")

    refs = api.list_repo_refs("ada/model")
    assert {ref.name: ref.target_commit == first for ref in refs.branches} == {"main": True, "next": False}
    assert [(ref.name, ref.ref, ref.target_commit) for ref in refs.tags] == [("v1", "refs/tags/v1", first)]
    assert files_of(api, "ada/model", revision="next") == [".gitattributes", "a.txt", "b.txt"]
    assert api.model_info("ada/model", revision=first[:8]).sha == first
    for again in (api.create_tag, api.create_branch):
        name = {"tag": "v1"} if again == api.create_tag else {"branch": "next"}
        with pytest.raises(HfHubHTTPError) as caught:
            again("ada/model", **name)
        assert caught.value.response.status_code == 409
        again("ada/model", **name, exist_ok=True)
    api.delete_tag("ada/model", tag="v1")
    api.delete_branch("ada/model", branch="next")
    refs = api.list_repo_refs("ada/model")
    assert ([ref.name for ref in refs.branches], refs.tags) == (["main"], [])


def test_a_history_can_be_squashed(hub, api):
    hub.add("ada/model", {"a.txt": "a"})
    api.super_squash_history("ada/model")

    assert len(api.list_repo_commits("ada/model")) == 1
    assert files_of(api, "ada/model") == [".gitattributes", "a.txt"]


def test_a_repository_is_deleted_and_gone(hub, api):
    hub.add("ada/model")
    api.delete_repo("ada/model")

    assert not api.repo_exists("ada/model")
    with pytest.raises(RepositoryNotFoundError):
        api.delete_repo("ada/model")
    api.delete_repo("ada/model", missing_ok=True)


def test_a_moved_repository_is_found_under_both_names(hub, api):
    hub.add("ada/old", {"a.txt": "a"})
    api.move_repo("ada/old", "acme/new")
    api.move_repo("acme/new", "acme/newest")

    assert api.model_info("ada/old").id == "acme/newest"
    assert api.model_info("acme/new").id == "acme/newest"
    redirect = hub.log.requests(path_contains="/api/models/ada/old")[0]
    assert redirect.status == 307
    api.upload_file(path_or_fileobj=b"b", path_in_repo="b.txt", repo_id="ada/old")
    assert files_of(api, "acme/newest") == [".gitattributes", "a.txt", "b.txt"]


def test_settings_gate_and_hide(hub, api):
    hub.add("ada/model")
    api.update_repo_settings("ada/model", gated="manual", private=True)

    info = api.model_info("ada/model")
    assert (info.gated, info.private) == ("manual", True)
    with pytest.raises(HfHubHTTPError, match="write token"):
        HfApi(hub.url, token=hub.read_token).update_repo_settings("ada/model", private=False)


def test_a_name_that_git_would_misread_is_refused(hub, api):
    """The Python client refuses such names itself, other clients do not."""
    headers = {"authorization": f"Bearer {hub.token}"}
    answer = get_session().post(f"{hub.url}/api/repos/create", json={"name": "x.git"}, headers=headers)

    assert (answer.status_code, answer.json()) == (400, {"error": "Invalid repo name: x.git"})


def test_a_dataset_is_created_written_and_read(hub, api):
    url = api.create_repo("ada/verses", repo_type="dataset")
    api.upload_file(path_or_fileobj=b"\0\1", path_in_repo="d/a.bin", repo_id="ada/verses", repo_type="dataset")

    assert url.repo_type == "dataset"
    assert api.list_repo_files("ada/verses", repo_type="dataset") == [".gitattributes", "d/a.bin"]
    path = Path(api.hf_hub_download("ada/verses", "d/a.bin", repo_type="dataset"))
    assert path.read_bytes() == b"\0\1"


def test_a_whole_folder_can_be_put_there_without_http(hub, api, tmp_path):
    folder = write_folder(tmp_path / "model", {**model_files(), "d/e.txt": "e"})
    hub.add("ada/model", folder)

    assert files_of(api, "ada/model") == [".gitattributes", "README.md", "config.json", "d/e.txt", "model.safetensors"]
    assert [record.method for record in hub.log.requests()] == ["GET"]
