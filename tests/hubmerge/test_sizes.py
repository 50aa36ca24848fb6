"""Sizes in bytes, read and written."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubmerge.sizes import parse_size, size_text


@pytest.mark.parametrize(
    ("text", "size"),
    [
        (5_000_000, 5_000_000),
        (1e9, 1_000_000_000),
        ("5000000", 5_000_000),
        ("500MB", 500_000_000),
        ("5 GB", 5_000_000_000),
        ("5gb", 5_000_000_000),
        (" 2G ", 2_000_000_000),
        ("1.5kB", 1500),
        ("1TB", 10**12),
        ("100K", 100_000),
        ("5GiB", 5 * 2**30),
        ("7B", 7),
        ("2e9", 2 * 10**9),
    ],
)
def test_sizes_are_read_as_people_write_them(text: Any, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["-5GB", -1, "huge", "", "GB", "5 X", "1.2.3GB", "²GB", True, None, "inf", "5i", [5]])
def test_what_is_no_size_is_refused(text: Any) -> None:
    with pytest.raises(ValueError, match=r"^expected a size like 500MB or 5GB, got "):
        parse_size(text)


@pytest.mark.parametrize("text", [0, "0GB", 1.5, "0.0001kB", "1e30", "9" * 400])
def test_parts_of_a_byte_and_sizes_beyond_all_disks_are_refused(text: Any) -> None:
    with pytest.raises(
        ValueError, match=r"^expected a whole number of bytes from 1 to 1,000,000,000,000,000,000, got "
    ):
        parse_size(text)


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.00 kB"), (2_345_000, "2.35 MB"), (5e9, "5.00 GB"), (3.2e12, "3.20 TB")],
)
def test_sizes_are_written_with_three_digits(size: float, text: str) -> None:
    assert size_text(size) == text


@given(st.integers(1, 10**15))
def test_a_whole_number_of_bytes_is_read_back(size: int) -> None:
    assert parse_size(size) == parse_size(str(size)) == parse_size(f"{size}B") == size


@given(st.integers(1, 10**15))
def test_what_is_written_is_read_back_within_half_a_percent(size: int) -> None:
    assert abs(parse_size(size_text(size)) - size) <= 0.005 * size
