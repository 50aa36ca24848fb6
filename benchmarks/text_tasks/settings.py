"""The six tasks: which texts, from which packages, under which labels, and how many of them; committed before any model was trained.

Texts that are alike in kind never stand in two tasks, so that a text belongs to one of all 48 labels, and asking without the task makes sense.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = [
    "ALL_LABELS",
    "HELD_OUT_PER_DOCUMENT",
    "LICENCES",
    "PIECE",
    "SEEDS",
    "SKIPPED_OF_CODE",
    "TASKS",
    "TRAIN_PER_DOCUMENT",
    "Label",
    "Sort",
    "Task",
]

SEEDS = (0, 1, 2)

PIECE = 260
"""Characters of a piece of text at most, and half as many at least."""

HELD_OUT_PER_DOCUMENT, TRAIN_PER_DOCUMENT = 5, 20
"""Pieces of one document (a file, a page, a fortune, a licence text) at most, evenly spread over it."""

SKIPPED_OF_CODE = 1500
"""Characters at the start of a file of code, where its licence stands, which is another task."""

LICENCES = "licensedcode-data==32.1.0"
"""The one package that is not Debian's."""

Sort = Literal["man", "code", "fortunes", "licences", "library"]


@dataclass(frozen=True)
class Label:
    """One label.  packages: of Debian.  files: pattern of their paths; for licences, how their keys begin; for the library, the package."""

    name: str
    packages: tuple[str, ...]
    files: str


@dataclass(frozen=True)
class Task:
    """Texts of one sort and what they are told apart by."""

    name: str
    sort: Sort
    labels: tuple[Label, ...]

    @property
    def columns(self) -> range:
        """Where its labels stand among those of all tasks."""
        start = ALL_LABELS.index(f"{self.name}: {self.labels[0].name}")
        return range(start, start + len(self.labels))


def _language(code: str, folder: str | None = None) -> Label:
    return Label(code, (f"manpages-{code}",), f"usr/share/man/{folder or code}/man*/*.gz")


def _code(name: str, ending: str, *packages: str) -> Label:
    return Label(name, packages, f"**/*.{ending}")


def _section(number: int, *packages: str) -> Label:
    return Label(str(number), packages, f"usr/share/man/man{number}/*.gz")


TASKS: tuple[Task, ...] = (
    Task(
        "language",
        "man",
        (*map(_language, ("da", "de", "es", "fr", "it", "nl")), _language("pt-br", "pt_BR"), _language("sv")),
    ),
    Task(
        "code",
        "code",
        (
            _code("C++", "h", "libstdc++-12-dev"),
            _code("Go", "go", "golang-golang-x-tools-dev"),
            _code("JavaScript", "js", "node-lodash", "node-acorn"),
            _code("Perl", "p[lm]", "perl-modules-5.36"),
            _code("PHP", "php", "php-symfony-console", "php-symfony-http-foundation"),
            _code("Ruby", "rb", "libruby3.1"),
            _code("Rust", "rs", "librust-regex-syntax-dev", "librust-syn-dev"),
            _code("Tcl", "tcl", "tcllib"),
        ),
    ),
    Task(
        "section",
        "man",
        (
            _section(1, "coreutils", "util-linux", "git-man"),
            _section(2, "manpages-dev"),
            _section(3, "manpages-dev"),
            _section(4, "manpages"),
            _section(5, "manpages", "systemd"),
            _section(7, "manpages"),
            _section(8, "util-linux", "systemd", "iproute2"),
        ),
    ),
    Task(
        "library",
        "library",
        tuple(
            Label(name, (), name)
            for name in ("asyncio", "ctypes", "email", "idlelib", "multiprocessing", "tkinter", "unittest", "xml")
        ),
    ),
    Task(
        "fortune",
        "fortunes",
        tuple(
            Label(name, ("fortunes",), f"usr/share/games/fortunes/{name}")
            for name in (
                "computers",
                "definitions",
                "men-women",
                "people",
                "politics",
                "science",
                "songs-poems",
                "work",
            )
        ),
    ),
    Task(
        "licence",
        "licences",
        tuple(
            Label(name, (), name) for name in ("agpl", "apache", "bsd", "cc-by", "gpl", "lgpl", "mit", "public-domain")
        ),
    ),
)

ALL_LABELS: tuple[str, ...] = tuple(f"{task.name}: {label.name}" for task in TASKS for label in task.labels)
