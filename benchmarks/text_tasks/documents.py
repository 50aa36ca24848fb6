"""Documents of a label: man pages without their markup, files of code without their first lines, fortunes, texts of licences."""

from __future__ import annotations

import gzip
import re
import sysconfig
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path

from benchmarks.text_tasks.settings import SKIPPED_OF_CODE, Label, Sort

__all__ = ["documents", "without_markup"]

_FONT = re.compile(r"^\.\s*(?:[BI]|[BIR][BIR]|SM|SB)\s+")
_ESCAPE = re.compile(r"\\(?:f(?:\[[^\]]*\]|\(..|.)|\*?\(..|\[[^\]]*\]|&|%|/|,|\||\^|:|s[+-]?\d)")
_REFERENCE = re.compile(r"\(\s*[1-9][a-z]*\s*\)")
_KEY = re.compile(r"^license_expression: ([\w.-]+)$", re.MULTILINE)


@cache
def documents(sort: Sort, label: Label, packages: Path) -> tuple[str, ...]:
    """All documents of a label, those with the same text once, in the order of their names; packages: where these are unpacked."""
    return tuple(dict.fromkeys(_READERS[sort](label, packages)))


def without_markup(page: str) -> str:
    """The words of a man page in roff: lines of text and of fonts, without escapes, headings, and the numbers of sections it refers to."""
    lines = []
    for line in page.splitlines():
        text = _FONT.sub("", line)
        if text[:1] in {".", "'"}:
            continue
        lines.append(_ESCAPE.sub("", text.replace(r"\-", "-").replace(r"\(aq", "'")))
    return _REFERENCE.sub("", " ".join(lines)).replace('"', "")


def _files(label: Label, packages: Path) -> Iterator[Path]:
    """Files, not links to them: the same page has many names."""
    for name in label.packages:
        paths = sorted((packages / name).glob(label.files))
        yield from (path for path in paths if path.is_file() and not path.is_symlink())


def _man(label: Label, packages: Path) -> Iterator[str]:
    for path in _files(label, packages):
        yield without_markup(gzip.decompress(path.read_bytes()).decode("utf-8", "replace"))


def _code(label: Label, packages: Path) -> Iterator[str]:
    for path in _files(label, packages):
        yield path.read_text(encoding="utf-8", errors="replace")[SKIPPED_OF_CODE:]


def _fortunes(label: Label, packages: Path) -> Iterator[str]:
    for path in _files(label, packages):
        yield from path.read_text(encoding="utf-8").split("\n%\n")


def _library(label: Label, _packages: Path) -> Iterator[str]:
    for path in sorted((Path(sysconfig.get_path("stdlib")) / label.files).rglob("*.py")):
        yield path.read_text(encoding="utf-8", errors="replace")[SKIPPED_OF_CODE:]


def _licences(label: Label, packages: Path) -> Iterator[str]:
    for key, text in _rules(packages):
        if re.match(rf"{re.escape(label.files)}(?:-|$)", key):
            yield text


@cache
def _rules(packages: Path) -> tuple[tuple[str, str], ...]:
    """Every text that stands for exactly one licence, with that licence's key."""
    found = []
    for path in sorted((packages / "licences" / "licensedcode" / "data" / "rules").glob("*.RULE")):
        _, head, text = path.read_text(encoding="utf-8").split("---\n", 2)
        if key := _KEY.search(head):
            found.append((key[1], text))
    return tuple(found)


_READERS: Mapping[Sort, Callable[[Label, Path], Iterator[str]]] = {
    "man": _man,
    "code": _code,
    "fortunes": _fortunes,
    "library": _library,
    "licences": _licences,
}
