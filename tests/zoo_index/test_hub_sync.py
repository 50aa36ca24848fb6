"""The zoo on the Hub: what is recorded, how many requests it takes, and what a bad repository or moment does."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hub import Drop, HubServer, Reply
from zoo_builders import llama_config, llama_tensors, safetensors, write_adapter, write_model

from zoo_index import Catalog, HubError, HubFacts, HubUnavailableError, ReferenceFormatError, hub_calls
from zoo_index.hub_reading import hub_state
from zoo_index.sync_report import Refused, Renamed


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    with Catalog.open(tmp_path / "zoo.duckdb") as opened:
        yield opened


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The waits between tries, counted instead of made."""
    made: list[float] = []
    monkeypatch.setattr(hub_calls, "sleep", made.append)
    return made


@pytest.fixture
def add(hub: HubServer, tmp_path: Path) -> Callable[..., None]:
    """``add("ada/model", card=..., seed=..., files=...)``: a tiny Llama on the test Hub; settings go to the Hub."""

    def put(repo: str, *, card: str = "license: mit", seed: int = 0, files: Any = None, **settings: Any) -> None:
        folder = write_model(tmp_path / "models" / repo, card=f"---\n{card}\n---\n", seed=seed, files=files)
        hub.add(repo, folder, **settings)

    return put


def asked(hub: HubServer) -> list[str]:
    """Requests to the API since the log was cleared: method and path, with the file's name for files."""
    return [f"{request.method} {request.path}" for request in hub.log.requests(origin="api")]


TINY = llama_tensors(llama_config(), 0)
PARAMETERS = sum(values.size for values in TINY.values())


def test_a_first_sync_costs_a_list_and_for_each_model_one_question_two_small_files_and_a_header(
    hub: HubServer, catalog: Catalog, add: Callable[..., None]
) -> None:
    add("ada/one", downloads=5, likes=2)
    add("ada/two", seed=1)
    report = catalog.sync(author="ada")
    assert report.added == ("ada/one", "ada/two")
    assert hub.log.weight_bytes_sent() == 0
    files = [request.file for request in hub.log.requests() if request.file]
    assert sorted(files) == sorted(["config.json", "README.md", "model.safetensors", "model.safetensors"] * 2)
    information = [request for request in hub.log.requests(path_contains="/api/models") if request.status == 200]
    assert len(information) == 1 + 2
    record = catalog.get("ada/one")
    assert record.commit == hub.repository("ada/one").head.id
    assert (record.kind, record.model_type, record.parameters, record.licence) == ("model", "llama", PARAMETERS, "mit")
    assert record.hub is not None
    assert (record.hub.downloads, record.hub.likes, record.hub.private, record.hub.gated) == (5, 2, False, None)
    assert "license:mit" in record.tags


def test_a_second_sync_costs_one_request(hub: HubServer, catalog: Catalog, add: Callable[..., None]) -> None:
    for number in range(5):
        add(f"ada/m{number}")
    first = catalog.sync(author="ada")
    hub.log.clear()
    second = catalog.sync(author="ada")
    assert asked(hub) == ["GET /api/models"]
    assert (second.added, second.updated, set(second.unchanged)) == ((), (), set(first.added))


def test_one_changed_model_costs_its_own_requests_only(
    hub: HubServer, catalog: Catalog, add: Callable[..., None]
) -> None:
    for number in range(5):
        add(f"ada/m{number}")
    catalog.sync(author="ada")
    hub.commit("ada/m3", {"README.md": "---\nlicense: apache-2.0\n---\n"})
    hub.log.clear()
    report = catalog.sync(author="ada")
    assert report.updated == ("ada/m3",)
    assert len(report.unchanged) == 4
    assert {request.path.split("/resolve/")[0] for request in hub.log.requests(path_contains="/resolve/")} == {
        "/ada/m3"
    }
    assert hub.log.weight_bytes_sent() == 0
    assert catalog.get("ada/m3").licence == "apache-2.0"


def test_downloads_are_brought_up_to_date_without_reading_the_model_again(
    hub: HubServer, catalog: Catalog, add: Callable[..., None]
) -> None:
    add("ada/model", downloads=1)
    catalog.sync(author="ada")
    hub.edit("ada/model", downloads=1000)
    hub.log.clear()
    assert catalog.sync(author="ada").unchanged == ("ada/model",)
    assert len(asked(hub)) == 1
    facts = catalog.get("ada/model").hub
    assert facts is not None
    assert facts.downloads == 1000


def test_a_parents_new_name_is_a_change_and_the_hubs_own_tags_are_none() -> None:
    def state(*tags: str) -> str:
        return hub_state("c" * 40, HubFacts(tags=tags))

    assert state("base_model:a/b", "region:us", "x") == state("y", "base_model:a/b")
    assert state("base_model:a/b") != state("base_model:new/b")


def test_named_models_cost_one_request_each_when_they_are_known(
    hub: HubServer, catalog: Catalog, add: Callable[..., None]
) -> None:
    add("ada/one")
    add("acme/two")
    assert catalog.sync(repos=["ada/one", "acme/two"]).added == ("ada/one", "acme/two")
    hub.log.clear()
    assert catalog.sync(repos=["ada/one", "acme/two"]).unchanged == ("ada/one", "acme/two")
    assert sorted(asked(hub)) == ["GET /api/models/acme/two", "GET /api/models/ada/one"]


def test_a_sharded_model_costs_its_index_and_three_headers(hub: HubServer, catalog: Catalog, tmp_path: Path) -> None:
    shards, weight_map = {}, {}
    for number in range(1, 4):
        name, tensor = f"model-{number:05}-of-00003.safetensors", f"model.layers.{number}.mlp.weight"
        shards[name] = safetensors({tensor: np.ones((512, 512), "float32")})  # 1 MiB
        weight_map[tensor] = name
    index = json.dumps({"metadata": {}, "weight_map": weight_map})
    config = json.dumps(llama_config())
    hub.add("ada/big", {"config.json": config, "model.safetensors.index.json": index, **shards})
    report = catalog.sync(repos="ada/big")
    assert report.refused == ()
    assert hub.log.weight_bytes_sent() == 0
    assert hub.log.bytes_sent() < 20_000
    headers = [request for request in hub.log.requests() if request.file in shards]
    assert len(headers) == 2 * 3  # the length, then the header
    assert catalog.get("ada/big").parameters == 3 * 512 * 512


def test_the_hub_is_asked_once_where_a_weight_file_lies(
    hub: HubServer, catalog: Catalog, add: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    add("ada/model", private=True)
    monkeypatch.setenv("HF_TOKEN", hub.token)
    catalog.sync(repos="ada/model")
    weights = hub.log.requests(path_contains="model.safetensors")
    assert [(request.origin, request.status) for request in weights] == [("api", 302)]
    assert [request.status for request in hub.log.requests(origin="cdn")] == [206, 206]
    assert hub.log.tokens_abroad() == ()


def test_an_address_that_has_expired_is_asked_for_again(
    hub: HubServer, catalog: Catalog, add: Callable[..., None]
) -> None:
    add("ada/model")
    hub.inject(Reply(403, message="Request has expired"), origin="cdn", nth=2)
    assert catalog.sync(repos="ada/model").refused == ()
    assert [request.status for request in hub.log.requests(origin="cdn")] == [206, 403, 206]
    assert len(hub.log.requests(path_contains="model.safetensors")) == 2


def test_a_tokenizer_is_read_once_for_all_models_that_share_its_bytes(
    hub: HubServer, catalog: Catalog, add: Callable[..., None]
) -> None:
    tokenizer = {"tokenizer.json": {"model": {"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": []}}}
    for number in range(6):
        add(f"ada/m{number}", seed=number, files=tokenizer)
    catalog.sync(author="ada")
    add("ada/later", files=tokenizer)
    catalog.sync(author="ada")
    assert len([request for request in hub.log.requests() if request.file == "tokenizer.json"]) == 1
    signatures = {record.tokenizer_signature for record in catalog.all()}
    assert len(catalog) == 7
    assert len(signatures) == 1
    assert None not in signatures


def test_author_search_and_limit_choose_and_the_most_downloaded_come_first(
    catalog: Catalog, add: Callable[..., None]
) -> None:
    add("ada/tiny-llama", downloads=10)
    add("ada/tiny-bert", downloads=30)
    add("bob/tiny-llama", downloads=20)
    add("ada/large", downloads=40)
    assert set(catalog.sync(search="llama").added) == {"ada/tiny-llama", "bob/tiny-llama"}
    assert catalog.sync(author="ada", search="tiny", limit=1).added == ("ada/tiny-bert",)
    assert len(catalog) == 3


def test_a_list_of_several_pages_is_read_to_its_end(
    start_hub: Callable[..., HubServer], catalog: Catalog, tmp_path: Path
) -> None:
    hub = start_hub(list_page=3)
    folder = write_model(tmp_path / "model")
    for number in range(8):
        hub.add(f"ada/m{number}", folder, downloads=number)
    assert len(catalog.sync(author="ada").added) == 8
    hub.log.clear()
    assert len(catalog.sync(author="ada").unchanged) == 8
    assert asked(hub) == ["GET /api/models"] * 3


def test_200_models_are_recorded_and_known_again(hub: HubServer, catalog: Catalog, tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model", tensors={"model.norm.weight": np.ones(8, "float32")})
    for number in range(200):
        hub.add(f"ada/m{number:03}", folder)
    seen: list[str] = []
    report = catalog.sync(author="ada", progress=lambda name, outcome: seen.append(f"{outcome} {name}"))
    assert len(report.added) == 200
    assert sorted(seen) == [f"added ada/m{number:03}" for number in range(200)]
    hub.log.clear()
    assert len(catalog.sync(author="ada").unchanged) == 200
    assert len(hub.log) == 1


def test_an_adapter_is_read_as_one_whatever_its_card_says(hub: HubServer, catalog: Catalog, tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "lora", base="ada/base")
    (folder / "README.md").write_text("---\nlibrary_name: transformers\ntags: []\n---\n")
    hub.add("ada/lora", folder)
    catalog.sync(repos="ada/lora")
    record = catalog.get("ada/lora")
    assert record.kind == "adapter"
    assert [(edge.parent, edge.source) for edge in record.base_models] == [("ada/base", "adapter_config")]


def test_bad_repositories_are_recorded_with_their_refusal_and_stop_nothing(
    hub: HubServer, catalog: Catalog, add: Callable[..., None]
) -> None:
    add("ada/good")
    add("ada/gated", card="license: mit\nbase_model: ada/good", gated="manual")
    hub.add(
        "bob/gated", {"config.json": json.dumps(llama_config()), "model.safetensors": safetensors(TINY)}, gated="auto"
    )
    hub.add("ada/weightless", {"config.json": json.dumps(llama_config())})
    hub.add("ada/empty", {"README.md": "# Nothing"})
    broken = {"README.md": "---\nlicense: mit\n"}  # the Hub took it, though its front matter has no end
    hub.add(
        "ada/broken-card", {"config.json": json.dumps(llama_config()), "model.safetensors": safetensors(TINY), **broken}
    )
    hub.add("ada/broken-weights", {"config.json": json.dumps(llama_config()), "model.safetensors": b"\xff" * 64})
    report = catalog.sync(author="ada", repos="bob/gated")
    reasons = {refused.reference: refused.reasons for refused in report.refused}
    link = f"{hub.url}/bob/gated"
    assert reasons["bob/gated"] == (
        (
            f"the model is gated, and you have not been given access · accept its terms at {link}, then log in with "
            "`hf auth login` or set HF_TOKEN"
        ),
    )
    assert reasons["ada/weightless"] == (
        "no safetensors weights · expected model.safetensors or model.safetensors.index.json",
    )
    assert reasons["ada/empty"] == (
        (
            "no config.json and no adapter_config.json, so this is neither a model nor an adapter · "
            "name the folder that from_pretrained would take"
        ),
    )
    assert set(reasons) == {"bob/gated", "ada/gated", "ada/weightless", "ada/empty", "ada/broken-weights"}
    assert catalog.get("ada/broken-card").warnings == ("README.md: its front matter has no end (a line of ---)",)
    gated = catalog.get("bob/gated")
    assert (gated.model_type, gated.parameters, gated.signature) == ("llama", PARAMETERS, None)
    assert gated.hub is not None
    assert gated.hub.gated == "auto"
    assert [(edge.parent, edge.source) for edge in catalog.get("ada/gated").base_models] == [
        ("ada/good", "card"),
        ("ada/good", "hub_tag"),
    ]
    hub.log.clear()
    again = catalog.sync(author="ada")
    assert len(asked(hub)) == 1
    assert {refused.reference for refused in again.refused} == set(reasons) - {"bob/gated"}


def test_a_gated_model_that_is_named_is_tried_again_and_read_once_access_is_given(
    hub: HubServer, catalog: Catalog, add: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    add("bob/gated", gated="manual")
    monkeypatch.setenv("HF_TOKEN", hub.token)
    for outcome in ("added", "unchanged"):
        report = catalog.sync(repos="bob/gated")
        assert getattr(report, outcome) == ("bob/gated",)
        assert report.refused[0].reference == "bob/gated"
    hub.edit("bob/gated", granted={"ada"})
    report = catalog.sync(repos="bob/gated")
    assert (report.updated, report.refused) == (("bob/gated",), ())
    assert catalog.get("bob/gated").signature is not None


def test_a_private_model_is_seen_with_its_owners_token_which_is_written_nowhere(
    hub: HubServer,
    catalog: Catalog,
    add: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    add("ada/secret", private=True)
    missing = (
        "there is no such model on the Hub, or it is private · ada/secret · check the spelling; for a private one "
    )
    report = catalog.sync(repos="ada/secret")
    assert report.refused == (Refused("ada/secret", (f"{missing}log in with `hf auth login` or set HF_TOKEN",)),)
    assert len(catalog) == 0
    monkeypatch.setenv("HF_TOKEN", hub.token)
    hub.add("bob/gated", {"config.json": "{}"}, gated="manual")
    report = catalog.sync(repos=["bob/gated", "bob/none"], author="ada")
    facts = catalog.get("ada/secret").hub
    assert facts is not None
    assert facts.private
    assert hub.log.tokens_abroad() == ()
    catalog.close()
    assert hub.token.encode() not in catalog.path.read_bytes()
    assert hub.token not in json.dumps(report.to_json()) + "".join(capsys.readouterr()) + caplog.text


def test_a_model_that_vanished_from_its_authors_list_is_looked_for(
    hub: HubServer, catalog: Catalog, add: Callable[..., None]
) -> None:
    for name in ("stays", "hidden", "old-name"):
        add(f"ada/{name}")
    catalog.sync(author="ada")
    hub.edit("ada/hidden", private=True)
    hub.move("ada/old-name", "ada/new-name")
    report = catalog.sync(author="ada")
    assert report.gone == ("ada/hidden",)
    assert report.added == ("ada/new-name",)
    assert report.renamed == (Renamed("ada/old-name", "ada/new-name"),)
    assert set(report.unchanged) == {"ada/stays"}
    assert catalog.get("ada/hidden").refusals == ("it is no longer on the Hub, or private now",)
    assert set(catalog.states()) == {"ada/stays", "ada/hidden", "ada/new-name"}
    hub.log.clear()
    report = catalog.sync(author="ada")
    assert (report.gone, report.renamed) == ((), ())
    assert len(asked(hub)) == 1  # what is gone is not asked for again
    hub.edit("ada/hidden", private=False)
    assert catalog.sync(author="ada").updated == ("ada/hidden",)
    assert catalog.get("ada/hidden").refusals == ()


def test_a_list_that_was_cut_short_says_nothing_about_the_rest(
    hub: HubServer, catalog: Catalog, add: Callable[..., None]
) -> None:
    add("ada/rare", downloads=1)
    add("ada/common", downloads=2)
    catalog.sync(author="ada")
    hub.edit("ada/rare", private=True)
    assert catalog.sync(author="ada", limit=1).gone == ()
    assert catalog.get("ada/rare").refusals == ()


def test_a_model_asked_for_by_its_old_name_or_in_other_case_is_recorded_under_the_hubs(
    hub: HubServer, catalog: Catalog, add: Callable[..., None]
) -> None:
    add("ada/Model")
    hub.redirect("bob/older", "ada/Model")
    report = catalog.sync(repos=["bob/older", "ADA/model", "ada/Model"])
    assert report.added == ("ada/Model",)
    assert report.renamed == (Renamed("bob/older", "ada/Model"),)
    assert list(catalog.states()) == ["ada/Model"]
    assert catalog.renames() == {"bob/older": "ada/Model"}


def test_a_busy_hub_is_asked_again_as_late_as_it_says(
    hub: HubServer, catalog: Catalog, add: Callable[..., None], waits: list[float]
) -> None:
    add("ada/model")
    hub.inject(Reply.rate_limited(retry_after="0"), "/api/models[?]")
    hub.inject(Reply.rate_limited(retry_after="7"), "/api/models/ada/model")
    hub.inject(Reply(503), "config.json")
    hub.inject(Drop(), "model.safetensors")
    assert catalog.sync(author="ada").added == ("ada/model",)
    assert sorted(waits) == [1.0, 1.0, 7.0]
    assert catalog.get("ada/model").refusals == ()


def test_a_model_for_which_the_hub_fails_is_reported_not_recorded_and_read_the_next_time(
    hub: HubServer, catalog: Catalog, add: Callable[..., None], waits: list[float]
) -> None:
    add("ada/good")
    add("ada/unlucky")
    fault = hub.inject(Reply(500), "unlucky/resolve/.*/config.json", times=None)
    report = catalog.sync(author="ada")
    assert report.added == ("ada/good",)
    assert report.refused == (
        Refused(
            "ada/unlucky",
            ("the Hub fails (500), also after 5 tries · ada/unlucky · try again later; what was fetched is kept",),
        ),
    )
    assert waits == [1.0, 2.0, 4.0, 8.0]
    assert hub.faults.struck(fault) == 5
    hub.faults.clear()
    assert catalog.sync(author="ada").added == ("ada/unlucky",)


def test_a_hub_that_is_away_ends_the_sync_and_what_was_recorded_stays(
    hub: HubServer, catalog: Catalog, add: Callable[..., None], waits: list[float]
) -> None:
    for number in range(30):
        add(f"ada/m{number:02}", downloads=100 - number)
    hub.inject(Reply(503), "/api/models/ada/m(0[3-9]|[12])", times=None)
    with pytest.raises(HubUnavailableError, match=r"the Hub fails \(503\), also after 5 tries · ada/m10 · "):
        catalog.sync(author="ada")
    assert list(catalog.states()) == ["ada/m00", "ada/m01", "ada/m02"]
    hub.faults.clear()
    report = catalog.sync(author="ada")
    assert (len(report.added), len(report.unchanged)) == (27, 3)


def test_a_list_that_fails_is_one_clear_error(hub: HubServer, catalog: Catalog) -> None:
    hub.inject(Reply(400, message="no"), "/api/models[?]", times=None)
    with pytest.raises(HubError) as refused:
        catalog.sync(author="ada")
    assert str(refused.value).startswith("the Hub answers 400")
    assert "models of ada" in str(refused.value)


def test_a_token_that_is_revoked_halfway_spoils_no_record(
    hub: HubServer, catalog: Catalog, add: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    add("ada/secret", private=True)
    monkeypatch.setenv("HF_TOKEN", hub.token)
    hub.revoke_after(0, hub.token, "config.json")
    report = catalog.sync(repos="ada/secret")
    assert [refused.reference for refused in report.refused] == ["ada/secret"]
    assert hub.token not in str(report)
    assert len(catalog) == 0


def test_offline_the_hub_is_not_asked_and_the_error_says_why(
    hub: HubServer, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(HubError) as refused:
        catalog.sync(author="ada")
    assert str(refused.value) == (
        "HF_HUB_OFFLINE is set, so the Hub is not asked · unset it, or use --cache for the models that are on this disk"
    )
    assert len(hub.log) == 0


def test_a_record_of_the_hub_is_not_overwritten_by_an_old_snapshot_in_the_cache(
    hub: HubServer, catalog: Catalog, add: Callable[..., None], api: Any, hub_home: Path
) -> None:
    add("ada/model")
    api.snapshot_download("ada/model", cache_dir=hub_home / "hub")
    hub.commit("ada/model", {"README.md": "---\nlicense: apache-2.0\n---\n"})
    catalog.sync(repos="ada/model")
    record = catalog.get("ada/model")
    report = catalog.sync(cache=True)
    assert report.unchanged == ("ada/model",)
    assert catalog.get("ada/model") == record


def test_a_model_that_is_gone_from_the_hub_is_read_from_its_snapshot_in_the_cache(
    hub: HubServer, catalog: Catalog, add: Callable[..., None], api: Any, hub_home: Path
) -> None:
    add("ada/model")
    catalog.sync(author="ada")
    api.snapshot_download("ada/model", cache_dir=hub_home / "hub")
    hub.edit("ada/model", private=True)
    assert catalog.sync(author="ada").gone == ("ada/model",)
    assert catalog.sync(cache=True).updated == ("ada/model",)
    assert catalog.get("ada/model").refusals == ()


@pytest.mark.parametrize(
    ("repo", "message"),
    [
        ("./model", "'./model' is a folder, not a model on the Hub · a folder is named without --repo"),
        ("a b", "'a b' is neither org/name nor a folder · start a folder with ./, ../, ~ or /"),
        ("a+b", "'a+b' is neither org/name nor a folder · start a folder with ./, ../, ~ or /"),
    ],
)
def test_a_name_that_the_hub_cannot_have_is_refused_before_anything_is_asked_or_recorded(
    hub: HubServer, catalog: Catalog, zoo: Path, repo: str, message: str
) -> None:
    with pytest.raises(ReferenceFormatError) as refused:
        catalog.sync(zoo, repos=["ada/model", repo])
    assert str(refused.value) == message
    assert (len(hub.log), len(catalog)) == (0, 0)


def test_the_sample_of_a_snapshots_weights_outlives_a_sync_with_the_hub(
    hub: HubServer, catalog: Catalog, add: Callable[..., None], api: Any, hub_home: Path
) -> None:
    add("ada/model")
    api.snapshot_download("ada/model", cache_dir=hub_home / "hub")
    catalog.sync(cache=True)
    sketch = catalog.entry("ada/model").sketch
    assert sketch is not None
    hub.log.clear()
    assert catalog.sync(repos="ada/model").updated == ("ada/model",)
    assert catalog.entry("ada/model").sketch == sketch
    assert len(asked(hub)) == 1  # its files are in the cache


def test_nothing_that_is_read_is_left_in_the_hub_cache(
    hub: HubServer, catalog: Catalog, add: Callable[..., None], hub_home: Path
) -> None:
    add("ada/model")
    catalog.sync(repos="ada/model")
    assert list((hub_home / "hub").rglob("*")) == []
