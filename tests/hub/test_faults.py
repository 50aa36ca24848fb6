"""Faults: each strikes the requests it names, as often as it says, and the real client feels it."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
from huggingface_hub.utils import get_session, httpx

from hub import ChangeBody, ChangeHeaders, CutBody, Do, Drop, Redirect, Reply, Wait
from hub.small_models import model_files, packed

MIB = 1 << 20


@pytest.fixture
def waits(monkeypatch):
    """How long the client would have slept, in order; it does not sleep."""
    found: list[float] = []
    monkeypatch.setattr(time, "sleep", found.append)
    return found


def test_a_status_is_given_to_the_nth_request_and_so_many_after_it(hub, api):
    hub.add("ada/model")
    fault = hub.inject(Reply(503), "/api/models/ada/model", nth=2, times=2)
    statuses = [get_session().get(f"{hub.url}/api/models/ada/model").status_code for _ in range(5)]

    assert statuses == [200, 503, 503, 200, 200]
    assert hub.faults.struck(fault) == 2
    assert [record.fault for record in hub.log.requests()] == [None, "Reply", "Reply", None, None]


def test_a_fault_strikes_only_what_it_names(hub, api):
    hub.add("ada/model", model_files())
    cdn_only = hub.inject(Reply(500), origin="cdn", times=None)
    posts_only = hub.inject(Reply(500), method="POST", times=None)

    assert api.model_info("ada/model").id == "ada/model"
    with pytest.raises(HfHubHTTPError):
        api.parse_safetensors_file_metadata("ada/model", "model.safetensors")
    assert (hub.faults.struck(cdn_only), hub.faults.struck(posts_only)) == (1, 0)


def test_a_call_the_client_does_not_retry_fails_at_the_first_429(hub, api, waits):
    hub.add("ada/model")
    hub.inject(Reply.rate_limited(retry_after="1"), "/api/models/ada/model")

    with pytest.raises(HfHubHTTPError) as caught:
        api.model_info("ada/model")
    assert (caught.value.response.status_code, len(hub.log), waits) == (429, 1, [])


@pytest.mark.parametrize(
    ("limit", "waited"), [({"retry_after": "3"}, 4), ({"reset": 2}, 3), ({}, 1), ({"retry_after": "soon"}, 1)]
)
def test_a_call_the_client_retries_waits_as_it_is_told(hub, api, waits, limit, waited):
    hub.add("ada/model")
    hub.inject(Reply.rate_limited(**limit), "/tree/")

    assert api.list_repo_files("ada/model") == [".gitattributes"]
    assert waits == [waited]


@pytest.mark.parametrize("status", [500, 503])
def test_a_list_survives_a_bad_moment(hub, api, waits, status):
    hub.add("ada/model")
    hub.inject(Reply(status), "/api/models", times=2)

    assert [model.id for model in api.list_models()] == ["ada/model"]
    assert waits == [1, 2]


def test_a_cut_stream_is_resumed_where_whole_chunks_end(hub, api, waits):
    content = bytes(range(256)) * (48 << 10)  # 12 MiB; the client keeps chunks of 10 MiB
    hub.add("ada/model", {"model.safetensors": content})
    hub.log.clear()
    hub.inject(CutBody(11 * MIB), "/repos/", origin="cdn")

    assert Path(api.hf_hub_download("ada/model", "model.safetensors")).read_bytes() == content
    reads = [(read.range, read.sent) for read in hub.log.requests(method="GET", origin="cdn")]
    assert reads == [(None, 11 * MIB), (f"bytes={10 * MIB}-", 2 * MIB)]


@pytest.mark.parametrize("at", [0, 1, 50])
def test_a_stream_can_be_cut_at_any_byte(hub, api, waits, at):
    hub.add("ada/model", model_files())
    fault = hub.inject(CutBody(at), "resolve-cache.*/config.json", method="GET")

    assert Path(api.hf_hub_download("ada/model", "config.json")).read_text() == model_files()["config.json"]
    assert hub.faults.struck(fault) == 1
    assert next(read.sent for read in hub.log.requests(method="GET")) == at


def test_a_connection_closed_without_an_answer_is_status_0(hub, api):
    hub.add("ada/model")
    hub.inject(Drop(), "/api/models/ada/model")

    with pytest.raises(httpx.RemoteProtocolError):
        api.model_info("ada/model")
    assert hub.log.requests()[0].status == 0


def test_a_commit_whose_answer_is_lost_is_there(hub, api):
    before = hub.add("ada/model").head.id
    hub.inject(Drop(after_work=True), "/commit/", method="POST")

    with pytest.raises(httpx.RemoteProtocolError):
        api.upload_file(path_or_fileobj=b"a", path_in_repo="a.txt", repo_id="ada/model")
    assert hub.repository("ada/model").head.parents == (before,)


def test_a_size_that_is_a_lie_is_found_out(hub, api):
    hub.add("ada/model", model_files())
    hub.inject(ChangeHeaders({"X-Linked-Size": "7"}), "/resolve/", method="HEAD", times=None)

    with pytest.raises(OSError, match="file should be of size 7 but has size 99"):
        api.hf_hub_download("ada/model", "model.safetensors")


@pytest.mark.parametrize("lie", ["5", "500"])
def test_a_content_length_that_is_a_lie_ends_the_connection(hub, lie):
    hub.add("ada/model", {"a.txt": "0123456789"})
    hub.inject(ChangeHeaders({"content-length": lie}), "resolve-cache")

    if lie == "500":
        with pytest.raises(httpx.RemoteProtocolError):
            get_session().get(f"{hub.url}/ada/model/resolve/main/a.txt")
    else:
        assert get_session().get(f"{hub.url}/ada/model/resolve/main/a.txt").text == "01234"
    assert get_session().get(f"{hub.url}/ada/model/resolve/main/a.txt").text == "0123456789"


def test_an_etag_can_be_wrong_or_missing(hub, api):
    hub.add("ada/model", {"a.txt": "a"})
    hub.inject(ChangeHeaders({"ETag": None}), method="HEAD", times=None)

    with pytest.raises(LocalEntryNotFoundError, match="X-Linked-ETag|ETag|etag"):  # noqa: RUF043 - one of three
        api.hf_hub_download("ada/model", "a.txt")


def test_bytes_can_be_damaged_without_a_change_of_size(hub, api):
    """The client checks sizes, not digests: whoever wants to know must compare the sha256 himself."""
    hub.add("ada/model", model_files())
    hub.inject(ChangeBody(lambda body: body[:-1] + b"\xff"), origin="cdn")

    damaged = Path(api.hf_hub_download("ada/model", "model.safetensors")).read_bytes()
    assert damaged == packed()[:-1] + b"\xff"


def test_a_redirect_to_a_stranger_takes_no_token_along(hub, api):
    hub.add("ada/model", model_files())
    hub.inject(Redirect(hub.stranger_url), "/resolve/.*config.json", method="GET")
    hub.inject(Redirect(hub.stranger_url), "/api/models/ada/model", method="GET")

    assert api.model_info("ada/model").id == "ada/model"  # the client follows, without its token
    headers = {"authorization": f"Bearer {hub.token}"}
    assert get_session().get(f"{hub.url}/ada/model/resolve/main/config.json", headers=headers).status_code == 200
    strangers = hub.log.requests(origin="stranger")
    assert [(record.status, record.authorized) for record in strangers] == [(200, False), (307, False), (200, False)]
    assert hub.log.tokens_abroad() == ()


def test_a_token_that_does_reach_a_stranger_is_seen(hub):
    get_session().get(f"{hub.stranger_url}/api/models", headers={"authorization": "Bearer hf_secret"})
    (seen,) = hub.log.tokens_abroad()
    assert seen.authorized
    assert "hf_secret" not in str(hub.log)


def test_a_token_dies_halfway_through_a_download(hub, api):
    hub.add("ada/model", {f"{number}.txt": str(number) for number in range(4)}, private=True)
    hub.revoke_after(3, hub.token)

    with pytest.raises(HfHubHTTPError, match="Invalid credentials in Authorization header"):
        api.snapshot_download("ada/model", max_workers=1)
    assert [record.status for record in hub.log.requests()][:4] == [200, 200, 307, 401]


def test_another_commit_slips_in_before_ours(hub, api):
    parent = hub.add("ada/model", {"a.txt": "a"}).head.id
    hub.slip_in("ada/model", {"theirs.txt": "theirs"})
    operation = CommitOperationAdd("ours.txt", b"ours")

    with pytest.raises(HfHubHTTPError, match="A commit has happened since") as caught:
        api.create_commit("ada/model", [operation], commit_message="m", parent_commit=parent)
    assert caught.value.response.status_code == 412
    assert sorted(hub.repository("ada/model").head.tree) == [".gitattributes", "a.txt", "theirs.txt"]


def test_an_answer_can_wait_until_the_test_says_go(hub):
    hub.add("ada/model")
    go, order = threading.Event(), []
    hub.inject(Wait(30, until=go), "/api/models/ada/model$")
    hub.inject(Do(lambda: order.append("answered")), "/api/models/ada/model$")
    client = threading.Thread(target=lambda: order.append(HfApi(hub.url).model_info("ada/model").id))
    client.start()
    assert HfApi(hub.url).list_repo_refs("ada/model").tags == []  # nobody else waits
    order.append("asked")
    go.set()
    client.join(30)

    assert order == ["asked", "answered", "ada/model"]


def test_faults_can_be_taken_away(hub, api):
    hub.add("ada/model")
    hub.inject(Reply(500), times=None)
    hub.faults.clear()

    assert api.model_info("ada/model").id == "ada/model"
