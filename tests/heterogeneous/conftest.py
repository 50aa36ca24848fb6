"""Fixtures of the tests of models that were trained apart."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import mal_recipes
import pleas_models
import pytest

import hubmerge
from hubmerge.torch_threads import one_torch_thread


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Torch on one core: the models are so small that handing them to others takes longer than the work."""
    with one_torch_thread():
        yield


@pytest.fixture(scope="module")
def pleas_zoo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The models of `pleas_models.zoo`."""
    place = tmp_path_factory.mktemp("pleas")
    pleas_models.zoo(place)
    return place


@pytest.fixture
def in_pleas_zoo(pleas_zoo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(pleas_zoo)


@pytest.fixture(scope="module")
def mal_zoo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The models of `mal_recipes.zoo`."""
    place = tmp_path_factory.mktemp("mal")
    mal_recipes.zoo(place)
    return place


@pytest.fixture
def in_mal_zoo(mal_zoo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(mal_zoo)


@pytest.fixture(scope="module")
def merged(mal_zoo: Path) -> Path:
    """`mal_recipes.WHOLE`, made once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(mal_zoo)
        hubmerge.merge(mal_recipes.WHOLE, "merged")
    return mal_zoo / "merged"
