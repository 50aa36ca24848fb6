"""What a token stands for, whatever its tokenizer's alphabet: the bytes of its text.

A byte-level vocabulary writes a space as "Ġ", a sentencepiece vocabulary as "▁", and bytes alone as "<0x0A>".  WordPiece marks what
goes on ("##ing"), which is kept: it is never the same as a word of its own.
"""

from __future__ import annotations

import re
from functools import cache

from hubmerge.vocabulary import Vocabulary

__all__ = ["token_texts"]

_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_SPACE = "▁"

Text = tuple[str, bytes]
"""Whether it is an added token or text, and its bytes."""


def token_texts(vocabulary: Vocabulary) -> dict[Text, int]:
    """Text -> id; of several tokens of one text the first.  Ids that no token has are left out."""
    names = vocabulary.ids
    is_byte_level = any(name.startswith("Ġ") for name in names)
    has_pieces = any(name.startswith(_SPACE) for name in names)
    found: dict[Text, int] = {}
    for name, number in sorted(names.items(), key=lambda item: item[1]):
        if name.startswith("\0"):
            continue
        if name in vocabulary.added:
            key = ("added", name.encode("utf-8", "surrogatepass"))
        else:
            key = ("text", _bytes(name, byte_level=is_byte_level, pieces=has_pieces))
        found.setdefault(key, number)
    return found


def _bytes(name: str, *, byte_level: bool, pieces: bool) -> bytes:
    if byte_level and all(letter in _alphabet() for letter in name):
        return bytes(_alphabet()[letter] for letter in name)
    if pieces:
        single = _BYTE.fullmatch(name)
        return bytes([int(single[1], 16)]) if single else name.replace(_SPACE, " ").encode("utf-8", "surrogatepass")
    return name.encode("utf-8", "surrogatepass")


@cache
def _alphabet() -> dict[str, int]:
    """GPT-2's letters for bytes: those that print stand for themselves, the others for letters from 256 on."""
    printing = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [number for number in range(256) if number not in printing]
    return {chr(number): number for number in printing} | {chr(256 + i): number for i, number in enumerate(others)}
