"""Who may see and read what: tokens, private, gated and disabled repositories."""

from __future__ import annotations

from pathlib import Path

import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import (
    DisabledRepoError,
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
)

from hub.small_models import model_files


@pytest.fixture
def anonymous(hub):
    return HfApi(hub.url, token=False)


@pytest.fixture
def bob(hub):
    return HfApi(hub.url, token=hub.other_token)


def test_whoami_tells_name_organisations_and_role(hub, api):
    me = api.whoami()

    assert (me["name"], [org["name"] for org in me["orgs"]]) == ("ada", ["acme"])
    assert me["auth"]["accessToken"]["role"] == "write"
    assert HfApi(hub.url, token=hub.read_token).whoami()["auth"]["accessToken"]["role"] == "read"


def test_a_token_nobody_has_is_401_everywhere(hub):
    hub.add("ada/model")
    wrong = HfApi(hub.url, token="hf_wrong")

    with pytest.raises(HfHubHTTPError, match="Invalid user token"):
        wrong.whoami()
    with pytest.raises(HfHubHTTPError, match="Invalid credentials in Authorization header") as caught:
        wrong.model_info("ada/model")
    assert caught.value.response.status_code == 401


def test_a_revoked_token_is_refused_from_then_on(hub, api):
    api.whoami()
    hub.revoke(hub.token)
    with pytest.raises(HfHubHTTPError, match="Invalid user token"):
        api.whoami()


def test_a_private_repository_does_not_exist_for_others(hub, api, anonymous, bob):
    hub.add("ada/secret", {"a.txt": "a"}, private=True)

    assert api.model_info("ada/secret").private is True
    for client, status in ((bob, 404), (anonymous, 401)):
        with pytest.raises(RepositoryNotFoundError) as caught:
            client.model_info("ada/secret")
        assert caught.value.response.status_code == status
        assert [model.id for model in client.list_models()] == []
        with pytest.raises(RepositoryNotFoundError):
            client.hf_hub_download("ada/secret", "a.txt")
    assert [model.id for model in api.list_models()] == ["ada/secret"]


@pytest.mark.parametrize("gated", ["auto", "manual"])
def test_a_gated_repository_shows_its_metadata_and_keeps_its_content(hub, api, anonymous, bob, gated):
    hub.add("ada/model", model_files(), gated=gated)

    for client, status in ((bob, 403), (anonymous, 401)):
        assert client.model_info("ada/model").gated == gated
        assert "config.json" in client.list_repo_files("ada/model")
        for name in ("config.json", "model.safetensors"):
            with pytest.raises(GatedRepoError) as caught:
                client.hf_hub_download("ada/model", name)
            assert caught.value.response.status_code == status
        with pytest.raises(GatedRepoError):
            client.auth_check("ada/model")
    api.auth_check("ada/model")
    assert api.hf_hub_download("ada/model", "config.json")


def test_access_to_a_gated_repository_can_be_granted(hub, api, bob):
    hub.add("ada/model", model_files(), gated="manual")
    api.grant_access("ada/model", "bob")

    bob.auth_check("ada/model")
    assert bob.hf_hub_download("ada/model", "model.safetensors")
    with pytest.raises(HfHubHTTPError, match="the rights to write"):
        bob.auth_check("ada/model", write=True)


def test_a_disabled_repository_is_named_so(hub, api):
    hub.add("ada/model", model_files(), disabled=True)

    assert api.model_info("ada/model").disabled is True
    with pytest.raises(DisabledRepoError):
        api.auth_check("ada/model")
    with pytest.raises(LocalEntryNotFoundError) as caught:
        api.hf_hub_download("ada/model", "config.json")  # the client calls everything but gated and missing so
    assert isinstance(caught.value.__cause__, DisabledRepoError)


def test_a_repository_that_never_was_looks_like_a_private_one(hub, api, anonymous):
    for client, status in ((api, 404), (anonymous, 401)):
        with pytest.raises(RepositoryNotFoundError) as caught:
            client.model_info("ada/none")
        assert caught.value.response.status_code == status
    assert not api.repo_exists("ada/none")
    assert not api.file_exists("ada/none", "config.json")


def test_the_client_of_this_process_finds_a_token_where_it_looks_for_one(hub, monkeypatch):
    with pytest.raises(HfHubHTTPError):
        HfApi().create_repo("ada/model")
    monkeypatch.setenv("HF_TOKEN", hub.token)
    assert HfApi().create_repo("ada/model").repo_id == "ada/model"


def test_the_module_level_functions_of_this_process_reach_the_test_hub_too(hub, hub_home):
    import huggingface_hub

    hub.add("ada/model", model_files())
    assert huggingface_hub.model_info("ada/model").author == "ada"
    folder = Path(huggingface_hub.snapshot_download("ada/model"))
    assert folder.is_relative_to(hub_home)
    assert huggingface_hub.hf_hub_download("ada/model", "config.json") == str(folder / "config.json")
    assert huggingface_hub.ModelCard.load("ada/model").data.license == "mit"
