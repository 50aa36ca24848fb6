"""The texts: pieces of Python's own library, its code and what its authors wrote about it, told apart by package.

Every Python brings them along; another version of Python has others.
"""

from __future__ import annotations

import io
import re
import sysconfig
import tokenize
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np

from benchmarks.heterogeneous.examples import Examples
from benchmarks.heterogeneous.settings import ImageSet
from benchmarks.heterogeneous.text_settings import LENGTH, PACKAGES, PIECES, WORDS

__all__ = ["OTHER", "START", "load_texts", "sorts", "words"]

START, OTHER = 0, 1
"""The numbers of what stands before every text, and of every word that is not among the most frequent."""

_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d|[^\w\s]")
_THREE_QUOTES = re.compile(r"[a-zA-Z]*(\"\"\"|''')")


def load_texts(name: ImageSet) -> Examples:
    """All pieces of a sort, package by package in the order of their files; RuntimeError where a package is missing or too small.

    A piece is `START` and the next 32 words, numbered by how frequent they are in both sorts together.  Of a package that has
    more pieces than are wanted, those are taken that are evenly spread over it.
    """
    numbers, found = _numbers(), _library()[name]
    rows, labels = [], []
    for label, package in enumerate(PACKAGES):
        own = found[package]
        there, wanted = len(own) // LENGTH, PIECES[name]
        if there < wanted:
            raise RuntimeError(f"Python's library has {there} pieces of {name} in {package}, {wanted} are wanted")
        for piece in range(wanted):
            start = piece * there // wanted * LENGTH
            rows.append([START, *(numbers.get(word, OTHER) for word in own[start : start + LENGTH])])
            labels.append(label)
    return Examples(np.array(rows, np.int64), np.array(labels, np.int64))


def words(text: str) -> list[str]:
    """Names taken apart at underscores and capitals, single digits and signs, in small letters."""
    return [word.lower() for word in _WORD.findall(text)]


def sorts(source: str) -> Iterator[tuple[ImageSet, str]]:
    """The parts of a Python file, each with what it is.

    prose: comments, and strings in three quotes, which are docstrings for the most part.  code: all other tokens.
    """
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT or (token.type == tokenize.STRING and _THREE_QUOTES.match(token.string)):
            yield "prose", token.string
        else:
            yield "code", token.string


@cache
def _library() -> Mapping[ImageSet, Mapping[str, Sequence[str]]]:
    """Sort -> package -> its words."""
    folder = Path(sysconfig.get_path("stdlib"))
    found: dict[ImageSet, dict[str, list[str]]] = {name: {package: [] for package in PACKAGES} for name in PIECES}
    for package in PACKAGES:
        for path in sorted((folder / package).rglob("*.py")):
            for name, text in sorts(path.read_text(encoding="utf-8")):
                found[name][package] += words(text)
    return found


@cache
def _numbers() -> Mapping[str, int]:
    """The most frequent words of all packages -> their numbers; of equally frequent ones the first by alphabet."""
    counts = Counter(word for packages in _library().values() for own in packages.values() for word in own)
    frequent = sorted(counts, key=lambda word: (-counts[word], word))[: WORDS - 2]
    return {word: number for number, word in enumerate(frequent, 2)}
