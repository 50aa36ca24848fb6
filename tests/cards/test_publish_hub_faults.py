"""A Hub in its bad moments: each ends in success after retries or in one clear error, and nothing is half-published."""

from __future__ import annotations

import json
import logging

import pytest
from hub.faults import ChangeBody, CutBody, Do, Drop, Reply

from cards import PublishError, publish
from zoo_index.errors import HubError

REPLY = {
    "429 that asks to wait": Reply.rate_limited(retry_after="7"),
    "429 with a limit": Reply.rate_limited(reset=3),
    "429": Reply.rate_limited(),
    "500": Reply(500),
    "503": Reply(503),
    "no answer": Drop(),
}
REQUESTS = {
    "information": ("GET", r"^/api/models/ada/zoo(\?|$)"),
    "validation": ("POST", "validate-yaml"),
    "creation": ("POST", "repos/create"),
    "preupload": ("POST", "/preupload/"),
    "batch": ("POST", "objects/batch"),
    "upload": ("PUT", "/"),
    "verify": ("POST", "lfs/verify"),
    "commit": ("POST", "/commit/main"),
    "comparison": ("GET", "/revision/"),
}


def _is_complete(hub, out, commits):
    repository = hub.repository("ada/zoo")
    assert [commit.title for commit in repository.history(repository.head)][-1] == "initial commit"
    assert len(list(repository.history(repository.head))) == commits
    assert hub.content("ada/zoo", "model.safetensors") == (out / "model.safetensors").read_bytes()
    assert sorted(repository.head.tree) == [
        ".gitattributes",
        "README.md",
        "config.json",
        "hubmerge.json",
        "model.safetensors",
    ]


@pytest.mark.parametrize("request_", REQUESTS)
@pytest.mark.parametrize("reply", REPLY)
def test_one_bad_moment_is_survived_wherever_it_comes(ada, small_merge, naps, request_, reply):
    method, path = REQUESTS[request_]
    fault = ada.inject(REPLY[reply], path, method=method)
    plan = publish(small_merge, "ada/zoo")

    assert ada.faults.struck(fault) == 1
    assert plan.commit == ada.repository("ada/zoo").head.id
    assert len(naps) == 1
    if reply == "429 that asks to wait":
        assert naps[0] in {7.0, 8.0}  # where huggingface_hub itself retries, it waits a second more
    if reply == "429 with a limit":
        assert naps == [4.0]
    _is_complete(ada, small_merge, commits=2)


@pytest.mark.parametrize("request_", ["creation", "commit", "upload", "verify"])
def test_a_lost_answer_is_not_a_second_try(ada, small_merge, naps, request_):
    method, path = REQUESTS[request_]
    ada.inject(Drop(after_work=True), path, method=method)
    plan = publish(small_merge, "ada/zoo")
    assert plan.commit == ada.repository("ada/zoo").head.id
    _is_complete(ada, small_merge, commits=2)


def test_a_lost_answer_to_a_proposal_is_not_a_second_proposal(ada, small_merge, naps):
    ada.add("ada/zoo", {"thesis.md": "years of work"}, private=True)
    ada.inject(Drop(after_work=True), "/commit/main", method="POST")
    plan = publish(small_merge, "ada/zoo", create_pr=True)
    assert plan.url == f"{ada.url}/ada/zoo/discussions/1"
    assert len(ada.repository("ada/zoo").discussions) == 1


@pytest.mark.parametrize("request_", sorted(REQUESTS.keys() - {"comparison", "verify"}))
def test_what_stays_broken_is_one_error_and_leaves_nothing(ada, small_merge, naps, request_):
    method, path = REQUESTS[request_]
    ada.inject(Reply(503), path, method=method, times=None)
    with pytest.raises(HubError) as caught:
        publish(small_merge, "ada/zoo")
    where = "the Hub" if request_ == "validation" else "ada/zoo"
    assert str(caught.value) == (
        f"the Hub fails (503), also after 5 tries · {where} · try again later; what was fetched is kept"
    )
    assert ada.state.repositories == {}


def test_an_upload_that_breaks_off_is_sent_again(ada, small_merge, naps):
    cut = ada.inject(Drop(), "/uploads/", method="PUT", times=3)
    publish(small_merge, "ada/zoo")
    assert ada.faults.struck(cut) == 3
    _is_complete(ada, small_merge, commits=2)


def test_an_upload_that_is_never_confirmed_is_not_sent_twice(ada, small_merge, naps):
    ada.inject(Reply(503), "lfs/verify", method="POST", times=None)
    publish(small_merge, "ada/zoo")
    assert len(ada.log.requests(method="PUT")) == 1
    _is_complete(ada, small_merge, commits=2)


def test_an_answer_that_is_cut_off_is_asked_for_again(ada, small_merge, naps):
    ada.inject(CutBody(20), r"^/api/models/ada/zoo/revision/", method="GET")
    publish(small_merge, "ada/zoo")
    _is_complete(ada, small_merge, commits=2)


def test_a_page_of_a_proxy_instead_of_an_answer_is_asked_again(ada, small_merge, naps):
    ada.add("ada/zoo", private=True)
    ada.inject(ChangeBody(lambda _: b"<html>Bad gateway</html>"), "validate-yaml", method="POST")
    publish(small_merge, "ada/zoo")
    _is_complete(ada, small_merge, commits=2)


def test_somebody_elses_commit_in_between_is_one_clear_error(ada, small_merge):
    ada.add("ada/zoo", private=True)
    ada.slip_in("ada/zoo", {"notes.md": "mine"})
    with pytest.raises(PublishError) as caught:
        publish(small_merge, "ada/zoo")
    assert str(caught.value) == (
        "somebody else committed to the repository meanwhile · ada/zoo · "
        "nothing was published; run it again to publish on top of that"
    )
    assert sorted(ada.repository("ada/zoo").head.tree) == [".gitattributes", "notes.md"]


def test_a_new_repository_that_somebody_else_fills_meanwhile_is_left_to_them(ada, small_merge):
    ada.slip_in("ada/zoo", {"notes.md": "mine"})
    with pytest.raises(PublishError, match="somebody else committed"):
        publish(small_merge, "ada/zoo")
    assert sorted(ada.repository("ada/zoo").head.tree) == [".gitattributes", "notes.md"]


@pytest.mark.parametrize("before", ["/preupload/", "objects/batch", "lfs/verify", "/commit/"])
def test_a_token_that_is_revoked_on_the_way_is_named_and_so_is_what_it_left(ada, small_merge, before):
    ada.inject(Do(lambda: ada.revoke(ada.token)), before)
    with pytest.raises(HubError) as caught:
        publish(small_merge, "ada/zoo")
    text = str(caught.value)
    assert text.startswith(
        "the Hub refuses (401: Invalid credentials in Authorization header) · ada/zoo · the token may be wrong"
    )
    assert "the new and empty repository ada/zoo could not be deleted again" in text
    assert f"delete it at {ada.url}/ada/zoo/settings, or publish again, which fills it" in text
    assert sorted(ada.repository("ada/zoo").head.tree) == [".gitattributes"]

    assert publish(small_merge, "ada/zoo", token=ada.new_token("ada")).state == "updates"
    _is_complete(ada, small_merge, commits=2)


def test_a_token_that_is_revoked_leaves_an_older_repository_as_it_was(ada, small_merge):
    ada.add("ada/zoo", private=True)
    before = ada.repository("ada/zoo").head.id
    ada.inject(Do(lambda: ada.revoke(ada.token)), "/commit/")
    with pytest.raises(HubError) as caught:
        publish(small_merge, "ada/zoo")
    assert "could not be deleted" not in str(caught.value)
    assert ada.repository("ada/zoo").head.id == before


def test_a_comparison_that_cannot_be_made_says_that_it_was_published(ada, small_merge, naps):
    ada.inject(Reply(503), "/revision/", method="GET", times=None)
    with pytest.raises(HubError) as caught:
        publish(small_merge, "ada/zoo")
    assert str(caught.value) == (
        "it was published, but could not be compared with what was sent: the Hub fails (503), also after 5 tries · "
        f"{ada.url}/ada/zoo/commit/{ada.repository('ada/zoo').head.id} · "
        "publish again, which compares and sends nothing twice"
    )
    _is_complete(ada, small_merge, commits=2)


def test_an_answer_that_is_lost_at_the_last_try_is_looked_up(ada, small_merge, naps):
    for request_ in ("creation", "commit"):
        method, path = REQUESTS[request_]
        ada.inject(Reply(503), path, method=method, times=4)
        ada.inject(Drop(after_work=True), path, method=method, nth=5)
    plan = publish(small_merge, "ada/zoo")
    assert plan.commit == ada.repository("ada/zoo").head.id
    _is_complete(ada, small_merge, commits=2)


def test_a_slow_commit_of_our_own_is_not_taken_for_somebody_elses(ada, small_merge, naps):
    ada.add("ada/zoo", private=True)
    ada.inject(Drop(after_work=True), "/commit/", method="POST")
    lagging = ada.repository("ada/zoo").head.id

    def as_before(body):
        value = json.loads(body)
        value["sha"] = lagging
        return json.dumps(value).encode()

    ada.inject(ChangeBody(as_before), r"^/api/models/ada/zoo\?blobs", method="GET", nth=2)
    plan = publish(small_merge, "ada/zoo")
    assert plan.commit == ada.repository("ada/zoo").head.id
    _is_complete(ada, small_merge, commits=2)


def _another_size(body):
    value = json.loads(body)
    for sibling in value["siblings"]:
        sibling["size"] += 1
    return json.dumps(value).encode()


def test_a_hub_that_tells_other_sizes_than_were_sent_is_not_believed(ada, small_merge):
    ada.inject(ChangeBody(_another_size), "/revision/", method="GET", times=None)
    with pytest.raises(PublishError) as caught:
        publish(small_merge, "ada/zoo")
    assert str(caught.value).startswith(
        "the Hub does not hold what was sent: README.md, config.json, hubmerge.json, model.safetensors · "
    )
    _is_complete(ada, small_merge, commits=2)


def test_information_that_lags_behind_is_asked_for_once_more(ada, small_merge):
    ada.inject(ChangeBody(_another_size), "/revision/", method="GET")
    assert publish(small_merge, "ada/zoo").commit == ada.repository("ada/zoo").head.id


def test_a_hub_that_makes_the_repository_public_gets_nothing(ada, small_merge):
    ada.inject(Do(lambda: ada.edit("ada/zoo", private=False)), r"^/api/models/ada/zoo\?blobs", method="GET", nth=2)
    with pytest.raises(PublishError, match="the Hub made the repository public"):
        publish(small_merge, "ada/zoo")
    assert ada.state.repositories == {}


def test_an_interruption_while_uploading_leaves_nothing(ada, small_merge, monkeypatch):
    from huggingface_hub import HfApi

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(HfApi, "create_commit", interrupted)
    with pytest.raises(KeyboardInterrupt):
        publish(small_merge, "ada/zoo")
    assert ada.state.repositories == {}


def test_the_token_is_in_no_log_and_no_error(ada, small_merge, naps, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    ada.inject(Reply(500, message="oops"), "/commit/", times=2)
    publish(small_merge, "ada/zoo")
    ada.inject(Reply(403, message="no"), "/commit/", times=None)
    card = small_merge / "README.md"
    card.write_text(card.read_text() + "\nMore words.\n")
    with pytest.raises(HubError) as caught:
        publish(small_merge, "ada/zoo")
    out, err = capfd.readouterr()
    chain = [caught.value, caught.value.__cause__]
    for text in (out, err, caplog.text, *(str(link) for link in chain), *(repr(link) for link in chain)):
        assert ada.token not in text


def test_a_name_that_turns_out_to_be_taken_is_one_clear_error(ada, small_merge):
    ada.inject(Reply(409, message="You already created this model repo"), "repos/create", method="POST")
    with pytest.raises(PublishError) as caught:
        publish(small_merge, "ada/zoo")
    assert str(caught.value) == (
        "the name is taken, by a repository that you cannot see · ada/zoo · choose another name"
    )
    assert ada.state.repositories == {}


def test_a_repository_that_somebody_else_made_and_filled_meanwhile_is_not_deleted(ada, small_merge, naps):
    ada.inject(Reply(503), "repos/create", method="POST")
    ada.inject(Do(lambda: ada.add("ada/zoo", {"notes.md": "mine"}, private=True)), "repos/create", method="POST", nth=2)
    with pytest.raises(PublishError, match="somebody else made the repository meanwhile"):
        publish(small_merge, "ada/zoo")
    assert sorted(ada.repository("ada/zoo").head.tree) == [".gitattributes", "notes.md"]


def test_a_hub_that_asks_to_wait_too_long_is_not_waited_for(ada, small_merge, naps):
    ada.inject(Reply.rate_limited(retry_after="3600"), "/commit/", method="POST", times=None)
    with pytest.raises(HubError, match="the Hub asks to slow down \\(429\\)"):
        publish(small_merge, "ada/zoo")
    assert naps == []
    assert ada.state.repositories == {}


def test_a_large_file_goes_in_parts_and_a_lost_part_goes_again(start_hub, small_merge, naps):
    hub = start_hub(part_size=100)
    size = (small_merge / "model.safetensors").stat().st_size
    lost = hub.inject(Drop(), "/uploads/.*/2", method="PUT")
    plan = publish(small_merge, "ada/zoo", token=hub.token)
    assert hub.faults.struck(lost) == 1
    assert len(hub.log.requests(method="PUT", origin="cdn")) == -(-size // 100) + 1
    assert plan.commit == hub.repository("ada/zoo").head.id
    _is_complete(hub, small_merge, commits=2)
    assert hub.log.tokens_abroad() == ()
