"""Writing to the test Hub with the real client: repositories, uploads, commits, pull requests."""

from __future__ import annotations

from pathlib import Path

import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationCopy, CommitOperationDelete, HfApi
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError
from huggingface_hub.utils import get_session

from hub.small_models import model_files, packed, write_folder
from hub.wire import Refusal


def paths(api, repo, revision="main"):
    return sorted(api.list_repo_files(repo, revision=revision))


def test_a_repository_is_born_with_one_commit_that_holds_gitattributes(hub, api):
    url = api.create_repo("ada/new")

    assert (url.repo_id, url.endpoint) == ("ada/new", hub.url)
    assert paths(api, "ada/new") == [".gitattributes"]
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


def test_a_read_only_token_cannot_create_or_upload(hub, api):
    hub.add("ada/model")
    reader = HfApi(hub.url, token=hub.read_token)

    with pytest.raises(HfHubHTTPError, match="you must use a write token"):
        reader.create_repo("ada/new")
    with pytest.raises(HfHubHTTPError, match="you must use a write token"):
        reader.upload_file(path_or_fileobj=b"x", path_in_repo="x.txt", repo_id="ada/model")
    assert paths(api, "ada/model") == [".gitattributes"]


def test_a_folder_is_uploaded_in_one_commit_and_its_weights_go_to_the_other_origin(hub, api, tmp_path):
    folder = write_folder(tmp_path / "model", model_files())
    api.create_repo("ada/model")

    commit = api.upload_folder(repo_id="ada/model", folder_path=folder)

    assert paths(api, "ada/model") == [".gitattributes", "README.md", "config.json", "model.safetensors"]
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
    assert paths(api, "ada/model") == files
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
    assert paths(api, "ada/model") == [".gitattributes", "x.txt", "y.txt"]


def test_a_pull_request_leaves_main_alone_until_it_is_merged(hub, api):
    hub.add("ada/model", {"a.txt": "a"})
    stranger = HfApi(hub.url, token=hub.other_token)

    operations = [CommitOperationAdd("b.txt", b"b"), CommitOperationDelete("a.txt")]
    commit = stranger.create_commit("ada/model", operations, commit_message="Offer", create_pr=True)

    assert (commit.pr_num, commit.pr_revision) == (1, "refs/pr/1")
    assert paths(api, "ada/model") == [".gitattributes", "a.txt"]
    assert paths(api, "ada/model", revision="refs/pr/1") == [".gitattributes", "b.txt"]
    details = api.get_discussion_details("ada/model", 1)
    assert (details.title, details.status, details.author, details.conflicting_files) == ("Offer", "open", "bob", [])

    with pytest.raises(HfHubHTTPError, match="you don't have the rights"):
        stranger.merge_pull_request("ada/model", 1)
    api.merge_pull_request("ada/model", 1)
    merged = api.get_discussion_details("ada/model", 1)
    assert (merged.status, merged.merge_commit_oid) == ("merged", api.model_info("ada/model").sha)
    assert paths(api, "ada/model") == [".gitattributes", "b.txt"]


def test_a_pull_request_against_a_changed_file_names_the_conflict(hub, api):
    hub.add("ada/model", {"a.txt": "a", "b.txt": "b"})
    api.create_commit("ada/model", [CommitOperationAdd("a.txt", b"theirs")], commit_message="Offer", create_pr=True)
    hub.commit("ada/model", {"a.txt": "ours", "b.txt": "also ours"})

    assert api.get_discussion_details("ada/model", 1).conflicting_files == ["a.txt"]
    with pytest.raises(HfHubHTTPError, match=r"conflicts in a\.txt"):
        api.merge_pull_request("ada/model", 1)
    assert hub.content("ada/model", "a.txt") == b"ours"


def test_an_empty_pull_request_is_a_draft_that_takes_commits_and_then_opens(hub, api):
    hub.add("ada/model", {"a.txt": "a"})
    pull = api.create_pull_request("ada/model", "Work in progress")
    api.upload_file(path_or_fileobj=b"b", path_in_repo="b.txt", repo_id="ada/model", revision=pull.git_reference)

    with pytest.raises(HfHubHTTPError, match="This pull request is draft"):
        api.merge_pull_request("ada/model", pull.num)
    api.change_discussion_status("ada/model", pull.num, "open")
    api.merge_pull_request("ada/model", pull.num)
    assert paths(api, "ada/model") == [".gitattributes", "a.txt", "b.txt"]


def test_a_refused_pull_request_leaves_none_behind(hub, api):
    hub.add("ada/model")
    with pytest.raises(HfHubHTTPError):
        api.create_commit("ada/model", [CommitOperationDelete("no.txt")], commit_message="Offer", create_pr=True)

    assert list(api.get_repo_discussions("ada/model")) == []
    assert api.list_repo_refs("ada/model", include_pull_requests=True).pull_requests == []


def test_discussions_are_commented_renamed_and_closed(hub, api):
    hub.add("ada/model")
    api.create_discussion("ada/model", "A question", description="Why?")
    api.comment_discussion("ada/model", 1, "Because.")
    api.rename_discussion("ada/model", 1, "An answer")
    api.change_discussion_status("ada/model", 1, "closed")

    details = api.get_discussion_details("ada/model", 1)
    assert (details.title, details.status) == ("An answer", "closed")
    assert [event.type for event in details.events] == ["comment", "comment", "title-change", "status-change"]
    assert [d.num for d in api.get_repo_discussions("ada/model", discussion_status="closed")] == [1]
    assert list(api.get_repo_discussions("ada/model", discussion_type="pull_request")) == []


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
    assert "README.md" in paths(api, "ada/model")


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


def test_branches_tags_and_refs(hub, api):
    first = hub.add("ada/model", {"a.txt": "a"}).head.id
    api.create_tag("ada/model", tag="v1")
    api.create_branch("ada/model", branch="next")
    api.upload_file(path_or_fileobj=b"b", path_in_repo="b.txt", repo_id="ada/model", revision="next")

    refs = api.list_repo_refs("ada/model")
    assert {ref.name: ref.target_commit == first for ref in refs.branches} == {"main": True, "next": False}
    assert [(ref.name, ref.ref, ref.target_commit) for ref in refs.tags] == [("v1", "refs/tags/v1", first)]
    assert paths(api, "ada/model", revision="next") == [".gitattributes", "a.txt", "b.txt"]
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
    assert paths(api, "ada/model") == [".gitattributes", "a.txt"]


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
    assert paths(api, "acme/newest") == [".gitattributes", "a.txt", "b.txt"]


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


def test_files_named_in_gitignore_are_left_out(hub, api, tmp_path):
    files = {
        ".gitignore": "*.log\n/checkpoints/\n# a comment\n",
        "a.txt": "a",
        "x/b.log": "b",
        "checkpoints/c.txt": "c",
    }
    hub.add("ada/model")
    api.upload_folder(repo_id="ada/model", folder_path=write_folder(tmp_path / "model", files))

    assert paths(api, "ada/model") == [".gitattributes", ".gitignore", "a.txt"]


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

    assert paths(api, "ada/model") == [".gitattributes", "README.md", "config.json", "d/e.txt", "model.safetensors"]
    assert [record.method for record in hub.log.requests()] == ["GET"]
