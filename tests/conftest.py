"""What every test may rely on: the Hub is out of reach, and the builders of tiny models can be imported anywhere."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from hubmerge import pass_store

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # huggingface_hub reads it once, when it is imported

# what is measured here is truth, not time: a busy machine must not fail a law
settings.register_profile("no deadline", deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "no deadline"))

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # so it is where a shell started the tests in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)

sys.path.insert(0, str(Path(__file__).parent / "hubmerge"))  # tests/laws imports the builders (zoo.py) from there


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Look for no garbage while modules are imported and tests collected, which leave little: a quarter of that time."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.fixture(scope="session", autouse=True)
def no_wait_for_the_disk() -> Iterator[None]:
    """Nothing is brought to the disk before a test goes on: none cuts the power, and a small merge waits longer than it works."""
    with pytest.MonkeyPatch.context() as patch:
        if hasattr(os, "fdatasync"):
            patch.setattr(os, "fdatasync", lambda descriptor: None)
        yield


@pytest.fixture(scope="session", autouse=True)
def common_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What commands keep for the next one is this run's own, and one for its processes.

    The tests' own processes keep compiled passes there, too, so that each is compiled once: a fifth of the quick tests.
    """
    place = tmp_path_factory.getbasetemp()
    cache = (place.parent if "PYTEST_XDIST_WORKER" in os.environ else place) / "hubmerge-cache"
    os.environ["HUBMERGE_CACHE"] = str(cache)
    pass_store._KEPT = 4096  # of all tests together
    pass_store.open_store(cache / "passes")
