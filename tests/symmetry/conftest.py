"""Fixtures of the tests of symmetries."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hubmerge.torch_threads import one_torch_thread


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Torch on one core: the models are so small that handing them to others takes longer than the work."""
    with one_torch_thread():
        yield
