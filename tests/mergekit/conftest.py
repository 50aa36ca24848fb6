"""The models that the recipes here name, made once, in the folder that the tests run in."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import parity_models
import pytest


@pytest.fixture(scope="module")
def parity_place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with every model; it is the current folder, as recipes name models by their place in it."""
    place, before = tmp_path_factory.mktemp("parity"), Path.cwd()
    parity_models.write_models(place)
    os.chdir(place)
    yield place
    os.chdir(before)
