"""A folder in which the documentation's examples run: the demo's models, a Hub cache, a cache of hubmerge's own."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import doc_models
import pytest
from huggingface_hub import constants
from shared_passes import shared_passes

from hubmerge import pass_store


@pytest.fixture(scope="session")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("untrained")
    doc_models.write_demo_models(place)
    doc_models.write_hub_models(place / "hub")
    return place


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `hubmerge demo` makes before it calls the first command: trained models, pictures, suite, recipes."""
    from hubmerge.demo.digits import load_split, write_pictures, write_unlabelled
    from hubmerge.demo.folder import DemoFolder
    from hubmerge.demo.recipes import suite_text, write_recipes
    from hubmerge.demo.training import save_models

    place = tmp_path_factory.mktemp("trained")
    before = Path.cwd()
    os.chdir(place)
    try:
        files, split = DemoFolder(Path("hubmerge-demo")), load_split(0)
        files.prepare()
        write_pictures(split.held_out, files.pictures)
        write_unlabelled(split.unlabelled, files.unlabelled)
        files.suite.write_text(suite_text(), encoding="utf-8")
        write_recipes(files)
        save_models(files, split, 0, lambda model: None)
    finally:
        os.chdir(before)
    doc_models.write_hub_models(place / "hub")
    return place


@pytest.fixture
def own_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The test's own folder as the current one, with caches inside it, and `hubmerge` found before any other."""
    monkeypatch.chdir(tmp_path)
    settings = {
        "HF_HUB_CACHE": str(tmp_path / "hub"),
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HUBMERGE_CACHE": str(tmp_path / "cache"),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "COLUMNS": "80",
        "OMP_NUM_THREADS": "1",
    }
    with shared_passes(tmp_path / "cache"):
        for name, value in settings.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", settings["HF_HUB_CACHE"])  # read once, at its import
        for name in ("_folder", "_identity"):  # a merge by command opens the store of its own cache
            monkeypatch.setattr(pass_store, name, getattr(pass_store, name))
        yield tmp_path


@pytest.fixture
def place(own_settings: Path, untrained: Path) -> Path:
    """The folder of a reader who has run the demo, but with untrained models."""
    return Path(shutil.copytree(untrained, own_settings, dirs_exist_ok=True))


@pytest.fixture
def trained_place(own_settings: Path, trained: Path) -> Path:
    """The folder of a reader who has run the demo."""
    return Path(shutil.copytree(trained, own_settings, dirs_exist_ok=True))
