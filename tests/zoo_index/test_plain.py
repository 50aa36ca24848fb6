"""What strangers wrote becomes bounded plain JSON."""

from __future__ import annotations

import datetime as dt
import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoo_index import CheckpointError
from zoo_index.plain import MAX_DEPTH, MAX_VALUES, one_line, plain

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.dates() | st.binary(max_size=4),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text() | st.integers(), inner, max_size=4),
    max_leaves=20,
)


@given(anything)
def test_anything_becomes_json_that_reads_back_equal(value: object) -> None:
    result = plain(value)
    text = json.dumps(result, allow_nan=False)
    assert json.loads(text) == result
    text.encode()
    assert plain(result) == result


@given(st.text())
def test_text_is_as_long_as_before_and_shows_nothing_hidden(text: str) -> None:
    result = str(plain(text))
    assert len(result) == len(text)
    assert not set(result) & {"\x1b", "\u202e", "\x00", "\ud800", "\r"}


def test_control_and_direction_characters_are_replaced() -> None:
    assert plain("a\x1b[31m\u202eb\n\tc") == "a\ufffd[31m\ufffdb\n\tc"


def test_numbers_that_json_has_not_become_text() -> None:
    assert plain([math.inf, -math.inf, math.nan, 1.5]) == ["inf", "-inf", "nan", 1.5]


def test_a_number_too_long_to_be_written_becomes_text() -> None:
    assert plain(2**64) == 2**64
    assert plain(16**5000) == hex(16**5000)


def test_dates_become_text_and_keys_too() -> None:
    assert plain({1: dt.date(2024, 5, 6)}) == {"1": "2024-05-06"}


def test_a_value_that_holds_itself_is_refused() -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(CheckpointError, match=f"values nested deeper than {MAX_DEPTH}"):
        plain(loop)


def test_a_billion_laughs_are_refused() -> None:
    laugh: Any = "ha"
    for _ in range(20):
        laugh = [laugh] * 10
    with pytest.raises(CheckpointError, match=f"more than {MAX_VALUES} values"):
        plain(laugh)


def test_one_line_takes_text_and_numbers_only() -> None:
    assert [one_line(value) for value in (" a \n b\x1b", 3, 2.5, True, None, [], "  ")] == [
        "a b\ufffd",
        "3",
        "2.5",
        None,
        None,
        None,
        None,
    ]


def test_one_line_is_cut_at_three_hundred_characters() -> None:
    assert one_line("x" * 400) == "x" * 299 + "…"
