"""The buffers of a worker begin where the processor copies fastest."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hubmerge.io.workspace import Workspace


@given(st.lists(st.tuples(st.integers(0, 2**40).map(lambda n: 8 * n), st.integers(0, 300)), min_size=1))
def test_a_buffer_begins_at_the_byte_of_a_cache_line_at_which_its_place_in_the_file_begins(
    asked: list[tuple[int, int]],
) -> None:
    workspace = Workspace()
    for place, size in asked:
        buffer = workspace.take("raw", "<f4", size, place)
        assert (buffer.size, buffer.dtype) == (size, np.float32)
        assert size == 0 or (buffer.ctypes.data - place) % 64 == 0


def test_a_buffer_of_a_place_between_numbers_begins_at_a_number() -> None:
    buffer = Workspace().take("raw", "<f8", 3, 23)
    assert buffer.flags.aligned
    assert buffer.ctypes.data % 64 == 16


def test_a_buffer_is_used_again_and_grows_when_more_is_asked_for() -> None:
    workspace = Workspace()
    first = workspace.take("raw", "<u2", 100)
    again = workspace.take("raw", "<u2", 90, 16)
    assert np.shares_memory(first, again)
    assert not np.shares_memory(first, workspace.take("raw", "<u2", 1000))
    assert not np.shares_memory(first, workspace.take("out", "<u2", 100))
