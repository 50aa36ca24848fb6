"""Sizes in bytes, as people write and read them."""

from __future__ import annotations

import re
from fractions import Fraction

from hubmerge.errors import shown

__all__ = ["parse_size", "size_text"]

_SIZE = re.compile(
    r"(?P<number>\d+(?:\.\d+)?(?:E\+?\d{1,2})?) ?(?P<prefix>[KMGT]?)(?P<binary>(?<=[KMGT])I)?B?", re.ASCII
)
_LARGEST = 10**18


def parse_size(value: object) -> int:
    """Bytes from a number or from text like ``500MB``, ``5 GB``, ``2G`` (powers of ten) or ``5GiB`` (of two).

    Raises ValueError for anything else, and for parts of a byte.
    """
    match = None if isinstance(value, bool) else _SIZE.fullmatch(str(value).strip().upper())
    if match is None:
        raise ValueError(f"expected a size like 500MB or 5GB, got {shown(value)}")
    power = " KMGT".index(match["prefix"] or " ")
    size = Fraction(match["number"]) * (1024 if match["binary"] else 1000) ** power
    if not 1 <= size <= _LARGEST or size.denominator != 1:
        raise ValueError(f"expected a whole number of bytes from 1 to {_LARGEST:,}, got {shown(value)}")
    return int(size)


def size_text(count: float) -> str:
    """Bytes for people: ``1.23 GB`` (powers of ten)."""
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.2f} {unit}"
    return f"{count:.0f} B"
