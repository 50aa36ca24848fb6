"""Reading contents: two origins, ranges, snapshots, caches, headers of weights."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from huggingface_hub import HfApi, HfFileSystem
from huggingface_hub.errors import (
    LocalEntryNotFoundError,
    NotASafetensorsRepoError,
    RemoteEntryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import get_session
from hypothesis import given
from hypothesis import strategies as st

from hub.ranges import file_response
from hub.small_models import model_files, packed
from hub.wire import Request


def get(address, **headers):
    return get_session().get(address, headers=headers)


def test_a_small_file_is_redirected_to_a_path_that_names_its_commit(hub):
    sha = hub.add("ada/model", {"d/a b.txt": "text"}).head.id
    session = get_session()
    head = session.head(f"{hub.url}/ada/model/resolve/main/d/a%20b.txt", follow_redirects=False)

    assert head.status_code == 307
    assert head.headers["location"] == f"/api/resolve-cache/models/ada/model/{sha}/d/a%20b.txt"
    assert head.headers["x-repo-commit"] == sha
    final = session.head(hub.url + head.headers["location"])
    entry = hub.repository("ada/model").head.tree["d/a b.txt"]
    assert final.headers["etag"] == f'"{entry.oid}"'
    assert (final.headers["content-length"], final.headers["x-repo-commit"]) == ("4", sha)
    assert get(f"{hub.url}/ada/model/resolve/main/d/a%20b.txt").text == "text"


def test_an_lfs_file_is_redirected_to_the_other_origin(hub):
    sha = hub.add("ada/model", model_files()).head.id
    head = get_session().head(f"{hub.url}/ada/model/resolve/{sha}/model.safetensors", follow_redirects=False)

    entry = hub.repository("ada/model").head.tree["model.safetensors"]
    assert head.status_code == 302
    assert head.headers["location"].startswith(f"{hub.cdn_url}/repos/models/ada/model/{entry.sha256}?")
    assert head.headers["x-linked-etag"] == f'"{entry.sha256}"'
    assert (head.headers["x-linked-size"], head.headers["x-repo-commit"]) == (str(entry.size), sha)
    assert get(head.headers["location"]).content == packed()


@pytest.mark.parametrize("name", ["small.txt", "large.bin"])
@pytest.mark.parametrize(
    ("asked", "status", "content", "said"),
    [
        ("bytes=0-3", 206, b"0123", "bytes 0-3/10"),
        ("bytes=8-", 206, b"89", "bytes 8-9/10"),
        ("bytes=-3", 206, b"789", "bytes 7-9/10"),
        ("bytes=0-99", 206, b"0123456789", "bytes 0-9/10"),
        ("bytes=10-", 416, b"", "bytes */10"),
        ("bytes=5-3", 416, b"", "bytes */10"),
        ("pages=1-2", 200, b"0123456789", None),
    ],
)
def test_ranges_are_served_on_both_origins(hub, name, asked, status, content, said):
    hub.add("ada/model", {"small.txt": "0123456789", "large.bin": "0123456789"})
    answer = get(f"{hub.url}/ada/model/resolve/main/{name}", range=asked)

    assert (answer.status_code, answer.content, answer.headers.get("content-range")) == (status, content, said)
    last = hub.log.requests()[-1]
    assert (last.range, last.sent, last.origin) == (asked, len(content), "cdn" if name == "large.bin" else "api")


@given(content=st.binary(min_size=1, max_size=40), first=st.integers(0, 45), last=st.integers(0, 45))
def test_a_range_is_the_slice_it_names(tmp_path_factory, content, first, last):
    path = tmp_path_factory.mktemp("range") / "file"
    path.write_bytes(content)
    request = Request("api", "GET", "/", {}, "", {"range": f"bytes={first}-{last}"}, io.BytesIO())
    answer = file_response(request, path, "file", {})

    expected = content[first : last + 1]
    assert answer.status == (206 if expected else 416)
    assert answer.size == len(expected)
    if expected:
        with path.open("rb") as file:
            file.seek(answer.body.start)
            assert file.read(answer.body.length) == expected
        assert answer.headers["Content-Range"] == f"bytes {first}-{first + len(expected) - 1}/{len(content)}"


def test_an_address_of_the_other_origin_works_only_with_its_signature_and_without_a_token(hub):
    hub.add("ada/model", model_files())
    head = get_session().head(f"{hub.url}/ada/model/resolve/main/model.safetensors", follow_redirects=False)
    place = head.headers["location"]

    assert get(place[:-1] + ("0" if place[-1] != "0" else "1")).status_code == 403
    assert get(place, authorization=f"Bearer {hub.token}").status_code == 400
    assert len(hub.log.tokens_abroad()) == 1


def test_a_file_or_revision_that_is_missing_is_named(hub, api):
    sha = hub.add("ada/model").head.id

    with pytest.raises(RemoteEntryNotFoundError) as caught:
        api.hf_hub_download("ada/model", "config.json")
    assert caught.value.response.headers["x-repo-commit"] == sha
    with pytest.raises(RevisionNotFoundError):
        api.hf_hub_download("ada/model", "config.json", revision="v2")
    assert not api.file_exists("ada/model", "config.json")


def test_a_snapshot_is_equal_byte_for_byte_and_a_second_one_asks_once(hub, api, hub_home):
    files = {**model_files(), "d/deep.txt": "deep"}
    hub.add("ada/model", files)
    folder = Path(api.snapshot_download("ada/model"))

    contents = {name: content if isinstance(content, bytes) else content.encode() for name, content in files.items()}
    assert {name: (folder / name).read_bytes() for name in files} == contents
    assert folder.is_relative_to(hub_home)
    hub.log.clear()
    assert api.snapshot_download("ada/model") == str(folder)
    assert [record.path for record in hub.log.requests()] == ["/api/models/ada/model/revision/main"]


def test_no_token_ever_reaches_the_other_origin(hub, api):
    hub.add("ada/model", model_files(), private=True)
    api.snapshot_download("ada/model")
    api.get_safetensors_metadata("ada/model")

    assert len(hub.log.requests(origin="cdn")) > 0
    assert hub.log.tokens_abroad() == ()


def test_headers_of_weights_are_read_by_range(hub, api):
    hub.add("ada/model", {"model.safetensors": packed(values=500_000)})
    metadata = api.get_safetensors_metadata("ada/model")

    assert metadata.parameter_count == {"F32": 500_000}
    (read,) = hub.log.requests(method="GET", origin="cdn")
    assert (read.range, read.sent, read.file) == ("bytes=0-100000", 100_001, "model.safetensors")


def test_a_long_header_takes_two_reads(hub, api):
    hub.add("ada/model", {"model.safetensors": packed(header_size=150_000)})

    assert api.get_safetensors_metadata("ada/model").parameter_count == {"F32": 6}
    reads = hub.log.requests(method="GET", origin="cdn")
    assert [read.range for read in reads] == ["bytes=0-100000", "bytes=8-150007"]
    assert hub.log.weight_bytes_sent() == 0


def test_a_sharded_model_s_headers_come_shard_by_shard_or_in_one_answer(hub, api):
    index = '{"metadata": {"total_size": 48}, "weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}'
    files = {
        "model-1.safetensors": packed("a"),
        "model-2.safetensors": packed("b"),
        "model.safetensors.index.json": index,
    }
    hub.add("ada/model", files)

    one_by_one = api.get_safetensors_metadata("ada/model")
    at_once = api.get_sharded_safetensors_metadata("ada/model", filename="model.safetensors.index.json")
    for metadata in (one_by_one, at_once):
        assert metadata.weight_map == {"a": "model-1.safetensors", "b": "model-2.safetensors"}
        assert metadata.parameter_count == {"F32": 12}
        assert metadata.metadata == {"total_size": 48}
    assert api.model_info("ada/model").safetensors.total == 12


def test_an_adapter_s_header_is_read_by_name(hub, api):
    hub.add("ada/lora", {"adapter_model.safetensors": packed("lora_A")})

    with pytest.raises(NotASafetensorsRepoError):
        api.get_safetensors_metadata("ada/lora")
    assert list(api.parse_safetensors_file_metadata("ada/lora", "adapter_model.safetensors").tensors) == ["lora_A"]


def test_the_cache_serves_when_the_client_is_offline(hub, api, monkeypatch):
    from huggingface_hub import constants

    hub.add("ada/model", model_files())
    folder = api.snapshot_download("ada/model")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    hub.log.clear()

    assert api.snapshot_download("ada/model") == folder
    with pytest.raises(LocalEntryNotFoundError):
        api.hf_hub_download("ada/model", "missing.txt")
    assert len(hub.log) == 0


def test_files_are_read_as_of_a_file_system(hub):
    hub.add("ada/model", {"a.txt": "alpha", "d/b.txt": "beta", "large.bin": bytes(1000)})
    files = HfFileSystem(endpoint=hub.url, token=hub.token, skip_instance_cache=True)

    assert sorted(files.ls("ada/model", detail=False)) == [
        f"ada/model/{name}" for name in (".gitattributes", "a.txt", "d", "large.bin")
    ]
    assert files.glob("ada/model/**/*.txt") == ["ada/model/a.txt", "ada/model/d/b.txt"]
    with files.open("ada/model/large.bin", block_size=100) as file:
        file.seek(950)
        assert file.read(20) == bytes(20)
    assert hub.log.bytes_sent("large.bin") < 1000
    with files.open("ada/model/new.txt", "w") as file:
        file.write("gamma")
    assert hub.content("ada/model", "new.txt") == b"gamma"


def test_a_pointer_can_be_read_raw(hub):
    hub.add("ada/model", {**model_files(), "a.txt": "text"})
    pointer = get(f"{hub.url}/ada/model/raw/main/model.safetensors").text

    sha256 = hub.repository("ada/model").head.tree["model.safetensors"].sha256
    assert pointer == f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {len(packed())}\n"
    assert get(f"{hub.url}/ada/model/raw/main/a.txt").text == "text"


def test_two_hubs_know_nothing_of_each_other(start_hub):
    one, two = start_hub(), start_hub()
    one.add("ada/model")

    assert HfApi(one.url).repo_exists("ada/model")
    assert not HfApi(two.url).repo_exists("ada/model")
    assert one.token != two.token
