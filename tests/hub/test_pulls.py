"""Pull requests and discussions with the real client."""

from __future__ import annotations

import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import HfHubHTTPError

from hub.small_models import files_of


def test_a_pull_request_leaves_main_alone_until_it_is_merged(hub, api):
    hub.add("ada/model", {"a.txt": "a"})
    stranger = HfApi(hub.url, token=hub.other_token)

    operations = [CommitOperationAdd("b.txt", b"b"), CommitOperationDelete("a.txt")]
    commit = stranger.create_commit("ada/model", operations, commit_message="Offer", create_pr=True)

    assert (commit.pr_num, commit.pr_revision) == (1, "refs/pr/1")
    assert files_of(api, "ada/model") == [".gitattributes", "a.txt"]
    assert files_of(api, "ada/model", revision="refs/pr/1") == [".gitattributes", "b.txt"]
    details = api.get_discussion_details("ada/model", 1)
    assert (details.title, details.status, details.author, details.conflicting_files) == ("Offer", "open", "bob", [])

    with pytest.raises(HfHubHTTPError, match="you don't have the rights"):
        stranger.merge_pull_request("ada/model", 1)
    api.merge_pull_request("ada/model", 1)
    merged = api.get_discussion_details("ada/model", 1)
    assert (merged.status, merged.merge_commit_oid) == ("merged", api.model_info("ada/model").sha)
    assert files_of(api, "ada/model") == [".gitattributes", "b.txt"]


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
    assert files_of(api, "ada/model") == [".gitattributes", "a.txt", "b.txt"]


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
