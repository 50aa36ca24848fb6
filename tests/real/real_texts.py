"""Two kinds of text that every Python brings along: the code of its library, and the prose of its language reference.

Every fourth function or class, and every fourth topic, is held out before anything is trained.
"""

from __future__ import annotations

import ast
import random
import re
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

__all__ = ["Text", "described_functions", "neighbouring_sentences", "python_code", "python_prose"]

_MODULES = ("argparse", "configparser", "difflib", "mailbox", "optparse")


class Text(NamedTuple):
    """train: all of it in one string.  held_out: pieces of 800 to 1,200 characters, evenly spread over the rest."""

    train: str
    held_out: tuple[str, ...]


def python_code(pieces: int) -> Text:
    """Functions and classes of the standard library."""
    parts: dict[bool, list[str]] = {True: [], False: []}
    for module in _MODULES:
        source = _source(module)
        blocks = [node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
        for number, node in enumerate(blocks):
            parts[number % 4 == 0].append(ast.get_source_segment(source, node) or "")
    return Text("\n\n\n".join(parts[False]), _spread("\n\n\n".join(parts[True]).split("\n"), pieces))


def python_prose(pieces: int) -> Text:
    """The paragraphs of pydoc's topics that are sentences; every fourth topic is held out."""
    from pydoc_data.topics import topics

    parts: dict[bool, list[str]] = {True: [], False: []}
    for number, name in enumerate(sorted(topics)):
        parts[number % 4 == 0] += [paragraph for paragraph in topics[name].split("\n\n") if _is_prose(paragraph)]
    return Text("\n\n".join(parts[False]), _spread("\n\n".join(parts[True]).split("\n"), pieces))


def described_functions() -> list[tuple[str, str]]:
    """What functions and classes of the standard library say they do, each with its name in words; in mixed order."""
    found = []
    for module in _MODULES:
        for node in ast.walk(ast.parse(_source(module))):
            said = ast.get_docstring(node) if isinstance(node, ast.FunctionDef | ast.ClassDef) else None
            if said and len(said) > 30:
                found.append((said.split("\n\n")[0].replace("\n", " "), node.name.replace("_", " ").strip()))
    return _mixed(found)


def neighbouring_sentences() -> list[tuple[str, str]]:
    """The first two sentences of every paragraph of the prose that has two; in mixed order."""
    paragraphs = (" ".join(paragraph.split()) for paragraph in python_prose(1).train.split("\n\n"))
    begun = (re.split(r"(?<=[.]) (?=[A-Z])", paragraph) for paragraph in paragraphs)
    return _mixed([(sentences[0], sentences[1]) for sentences in begun if len(sentences) > 1])


def _mixed(pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
    return random.Random(0).sample(pairs, len(pairs))


def _source(module: str) -> str:
    spec = find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).read_text(encoding="utf-8")


def _is_prose(paragraph: str) -> bool:
    code = paragraph.startswith((" ", ">", "|", "+")) or "::=" in paragraph or "***" in paragraph or "===" in paragraph
    return len(paragraph) > 120 and not code


def _spread(lines: list[str], pieces: int) -> tuple[str, ...]:
    """So many pieces of whole lines, each begun at its own share of the lines."""
    chosen = []
    for number in range(pieces):
        first = last = number * len(lines) // pieces
        while last < len(lines) and len("\n".join(lines[first:last])) < 800:
            last += 1
        chosen.append("\n".join(lines[first:last]))
    assert min(map(len, chosen)) > 400, "a piece ran out of text"
    return tuple(chosen)
