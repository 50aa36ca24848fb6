"""The request log: what was asked, what was sent, and never a token."""

from __future__ import annotations

import socket

import pytest
from huggingface_hub import HfApi
from huggingface_hub.utils import get_session

from hub import token_hash
from hub.small_models import model_files, packed

COMMIT = b'{"key": "header", "value": {"summary": "s"}}\n{"key": "file", "value": {"path": "a", "content": "a"}}\n'


def get(address, **headers):
    return get_session().get(address, headers=headers)


def test_requests_are_logged_in_order_with_what_they_carried(hub, api):
    api.create_repo("ada/model")
    api.model_info("ada/model", expand=["sha"])
    HfApi(hub.url, token=False).model_info("ada/model")

    first, second, third = hub.log.requests()
    assert (first.method, first.path, first.status, first.origin) == ("POST", "/api/repos/create", 200, "api")
    assert first.received == len('{"name":"model","organization":"ada"}')
    assert (second.path, second.query) == ("/api/models/ada/model", "expand=sha")
    assert (second.token, second.authorized) == (token_hash(hub.token), True)
    assert (third.token, third.authorized) == (None, False)
    assert [record.number for record in (first, second, third)] == [1, 2, 3]


def test_a_token_is_known_by_its_hash_only(hub, api):
    api.whoami()
    assert hub.token not in repr(hub.log.requests())
    assert token_hash(hub.token) in str(hub.log)


def test_weight_bytes_are_those_behind_the_header(hub):
    content = packed(values=6)
    header = 8 + int.from_bytes(content[:8], "little")
    hub.add("ada/model", {"model.safetensors": content, "config.json": "{}", "old.bin": b"\0" * 10})
    place = f"{hub.url}/ada/model/resolve/main"

    get(f"{place}/model.safetensors", range="bytes=0-7")
    get(f"{place}/model.safetensors", range=f"bytes=8-{header - 1}")
    get(f"{place}/config.json")
    assert hub.log.weight_bytes_sent() == 0
    assert hub.log.bytes_sent("model.safetensors") == header
    get(f"{place}/model.safetensors", range=f"bytes={header - 2}-{header + 4}")
    assert hub.log.weight_bytes_sent() == 5
    get(f"{place}/model.safetensors", range=f"bytes={header + 20}-")
    assert hub.log.weight_bytes_sent() == 5 + 4
    get(f"{place}/old.bin", range="bytes=1-4")
    assert hub.log.weight_bytes_sent() == 5 + 4 + 4
    get(f"{place}/model.safetensors")
    assert hub.log.weight_bytes_sent() == 5 + 4 + 4 + 24


def test_a_head_sends_nothing(hub):
    hub.add("ada/model", model_files())
    get_session().head(f"{hub.url}/ada/model/resolve/main/model.safetensors")

    assert [record.sent for record in hub.log.requests()] == [0, 0]
    assert hub.log.weight_bytes_sent() == 0


def test_requests_are_chosen_by_method_origin_path_and_status(hub):
    hub.add("ada/model", model_files())
    get(f"{hub.url}/ada/model/resolve/main/model.safetensors")
    get(f"{hub.url}/ada/model/resolve/main/none.txt")

    assert [r.status for r in hub.log.requests(path_contains="/resolve/")] == [302, 404]
    assert [r.file for r in hub.log.requests(origin="cdn", method="GET", status=200)] == ["model.safetensors"]
    hub.log.clear()
    assert len(hub.log) == 0


def test_what_the_hub_does_not_have_is_404_and_a_wrong_method_405(hub):
    assert get(f"{hub.url}/api/nothing/of/this/kind").status_code == 404
    answer = get_session().delete(f"{hub.url}/api/whoami-v2")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET")


def test_a_mistake_of_the_server_s_own_is_kept_for_the_fixture(hub):
    hub.state.repositories["models", "ada/broken"] = None
    assert get(f"{hub.url}/api/models").status_code == 500
    assert "AttributeError" in hub.crashes[0]
    hub.crashes.clear()


def test_a_body_without_a_length_is_read(hub, api):
    """Upload clients may send the body in chunks."""
    hub.add("ada/model")
    chunks = (piece for piece in (b'{"content": "---\\nlicense: ', b'mine\\n---\\n"}'))
    answer = get_session().post(f"{hub.url}/api/validate-yaml", content=chunks)
    assert (answer.status_code, len(answer.json()["errors"])) == (400, 1)


@pytest.mark.parametrize(
    "rest",
    [
        b"Content-Length: 200\r\n\r\n" + COMMIT,
        b"Transfer-Encoding: chunked\r\n\r\nff\r\n" + COMMIT,
        b"Transfer-Encoding: chunked\r\n\r\n",
    ],
)
def test_a_client_that_dies_halfway_has_asked_for_nothing(hub, rest):
    """The lines of a commit that did arrive are not committed."""
    before = hub.add("ada/model").head.id
    head = f"POST /api/models/ada/model/commit/main HTTP/1.1\r\nAuthorization: Bearer {hub.token}\r\n".encode()
    with socket.create_connection(("127.0.0.1", int(hub.url.rpartition(":")[2]))) as connection:
        connection.sendall(head + rest)
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(100) == b""  # closed without an answer

    assert hub.repository("ada/model").head.id == before
    assert len(hub.log) == 0
