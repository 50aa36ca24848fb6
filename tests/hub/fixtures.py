"""Fixtures for tests in the Hub's own process, and what connects the client there to the test Hub.

In a conftest.py: ``from hub.fixtures import api, hub, hub_home, start_hub`` (the folder tests/ is on the path under pytest).

huggingface_hub 2.4.0 reads its environment once, at import.  `connect_client` replaces what it keeps of it: the module
constants (endpoint, cache, token file, offline, Xet), the endpoint of the module-level functions (``api`` of hf_api), and
the origins that may see the token.  So in one process work: ``HfApi()``, the module-level functions, ``ModelCard``,
``HfFileSystem``, and transformers by repository id.  Copied by value, and so not reached: the default folder of
``scan_cache_dir``, the assets cache, git credentials, ``hf auth``.  For the command line, and wherever a test is about the
environment itself, run a subprocess with `HubServer.environment`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from hub.server import HubServer
from hub.state import Settings

if TYPE_CHECKING:
    from huggingface_hub import HfApi

__all__ = ["api", "connect_client", "hub", "hub_home", "start_hub"]


def connect_client(server: HubServer, monkeypatch: pytest.MonkeyPatch, home: Path, token: str | None = None) -> None:
    """Point this process's client at `server`, with its cache in `home` and `token` as the one it finds by itself."""
    from huggingface_hub import constants, hf_api
    from huggingface_hub.utils import _http

    for name in ("HUGGING_FACE_HUB_TOKEN", "HF_TOKEN", "HF_OIDC_RESOURCE", "TRANSFORMERS_OFFLINE", "HF_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    own = server.environment(home, token)
    for name in ("HF_ENDPOINT", "HF_HOME", "HF_TOKEN", "HF_HUB_DISABLE_XET", "HUBMERGE_CACHE", "NO_PROXY"):
        if name in own:
            monkeypatch.setenv(name, own[name])
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    values = {
        "ENDPOINT": server.url,
        "HUGGINGFACE_CO_URL_TEMPLATE": server.url + "/{repo_id}/resolve/{revision}/{filename}",
        "HF_HUB_OFFLINE": False,
        "HF_HUB_DISABLE_XET": True,
        "HF_HUB_DISABLE_TELEMETRY": True,
        "HF_HUB_DISABLE_IMPLICIT_TOKEN": False,
        "HF_HOME": str(home),
        "HF_HUB_CACHE": str(home / "hub"),
        "HF_ASSETS_CACHE": str(home / "assets"),
        "HF_TOKEN_PATH": str(home / "token"),
        "HF_STORED_TOKENS_PATH": str(home / "stored_tokens"),
    }
    for name, value in values.items():
        monkeypatch.setattr(constants, name, value)
    monkeypatch.setattr(hf_api.api, "endpoint", server.url)
    monkeypatch.setattr(_http, "_HUB_ORIGINS", frozenset({_http._url_origin(server.url)}))


@pytest.fixture
def hub_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The client's own folder: HF_HOME of the test."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture
def start_hub(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, hub_home: Path
) -> Iterator[Callable[..., HubServer]]:
    """``start_hub(lfs_threshold=100, ...)``: a test Hub with these `Settings`, this process's client connected to it."""
    from huggingface_hub import close_session
    from huggingface_hub.utils.tqdm import disable_progress_bars

    disable_progress_bars()
    servers: list[HubServer] = []

    def start(**settings: int) -> HubServer:
        server = HubServer(tmp_path_factory.mktemp("hub"), Settings(**settings))
        server.start()
        servers.append(server)
        connect_client(server, monkeypatch, hub_home)
        return server

    yield start
    close_session()
    for server in servers:
        server.stop()
    crashes = [crash for server in servers for crash in server.crashes]
    assert not crashes, "\n".join(crashes)


@pytest.fixture
def hub(start_hub: Callable[..., HubServer]) -> HubServer:
    """A test Hub of its own for the test, as large as the real one; this process's client is connected as nobody."""
    return start_hub()


@pytest.fixture
def api(hub: HubServer) -> HfApi:
    """The real client as ada, who may write."""
    from huggingface_hub import HfApi

    return HfApi(endpoint=hub.url, token=hub.token)
