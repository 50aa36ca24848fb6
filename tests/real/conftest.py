"""One test Hub for all tests with real models, and people who work with it, each at a home of their own."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hub.server import HubServer
from users import User


@pytest.fixture(scope="session")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of everything here; emptied at the end, because pytest would keep gigabytes of three runs."""
    folder = tmp_path_factory.mktemp("real")
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def real_hub(workshop: Path) -> Iterator[HubServer]:
    with HubServer(workshop / "hub") as server:
        yield server
    assert not server.crashes, "\n".join(server.crashes)


@pytest.fixture(scope="session")
def newcomer(real_hub: HubServer, workshop: Path) -> Callable[..., User]:
    """``newcomer(name, token)``: a user who has never fetched anything; the token is ada's to write, unless told."""

    def arrive(name: str, token: str | None = real_hub.token) -> User:
        place, home = workshop / name, workshop / f"{name}-home"
        place.mkdir()
        return User(real_hub, place, home, token)

    return arrive
