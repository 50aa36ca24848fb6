"""Fixtures of the tests of models that were trained apart."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hubmerge.torch_threads import one_torch_thread


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Torch on one core: the models are so small that handing them to others takes longer than the work."""
    with one_torch_thread():
        yield
