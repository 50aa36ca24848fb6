"""The only module that prints.  Facts go to stdout, progress and hints to stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from shutil import get_terminal_size
from typing import Annotated, Any

import typer

from hubmerge.cli.columns import laid_out

__all__ = [
    "Format",
    "FormatOption",
    "JsonOption",
    "calm_downloads",
    "emit",
    "error",
    "note",
    "print_table",
    "progress",
    "quiet_transformers",
    "say",
]


class Format(StrEnum):
    """How facts are printed."""

    table = "table"
    json = "json"
    quiet = "quiet"


FormatOption = Annotated[
    Format, typer.Option("--format", help="table for people, json for programs, quiet for one name or number a line.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Short for --format json.")]


def say(text: str = "") -> None:
    """One line of facts."""
    print(_printable(text))


def note(text: str) -> None:
    """One line for the person at the terminal: progress, a hint, a warning."""
    print(_printable(text), file=sys.stderr)


def error(fault: object) -> None:
    """One fault, as ``error: what · where · hint``."""
    note("error: " + " ".join(str(fault).splitlines()))


# Names in strangers' files can hold what moves a cursor, or bytes that were no text.
_CONTROLS = dict.fromkeys([*range(32), *range(127, 160), *range(0xD800, 0xE000)], "\ufffd") | {9: "\t", 10: "\n"}


def _printable(text: str) -> str:
    return text if text.isascii() and text.isprintable() else text.translate(_CONTROLS)


@contextmanager
def progress(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal, silence elsewhere: yields a function to call with the bytes done since the last call."""
    if not sys.stderr.isatty() or not total:
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(file=sys.stderr), transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda count: bar.advance(task, count)


def calm_downloads() -> None:
    """Let the Hub client show its bars on a terminal only."""
    if not sys.stderr.isatty():
        from huggingface_hub.utils import disable_progress_bars  # type: ignore[attr-defined]

        disable_progress_bars()


def quiet_transformers() -> None:
    """Keep transformers' own bars and warnings off the terminal; its errors come through."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


def emit(
    format: Format,  # noqa: A002 - the option's own name
    json_flag: bool,
    *,
    data: Callable[[], Any],
    table: Callable[[], None],
    quiet: Callable[[], Iterable[object]],
) -> None:
    """Print one answer in the format asked for: `data()` as JSON, `table()` prints itself, `quiet()` line by line."""
    if json_flag or format is Format.json:
        say(json.dumps(data(), indent=2, ensure_ascii=False))
    elif format is Format.quiet:
        for line in quiet():
            say(str(line))
    else:
        table()


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, title: str = "") -> None:
    """A plain table: aligned columns, numbers to the right; no lines, no colour; on a terminal no wider than that, if words allow it."""
    text = [[_cell(value) for value in row] for row in rows]
    right = [bool(text) and all(_is_number(row[i]) for row in text) for i in range(len(columns))]
    if title:
        say(title)
    room = get_terminal_size().columns if sys.stdout.isatty() else None
    for line in laid_out([[*columns], *text], right, room):
        say(line)


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return "-" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def _is_number(cell: str) -> bool:
    return (
        cell == "-"
        or cell.replace(",", "").replace(".", "", 1).replace("±", "").replace(" ", "").removeprefix("-").isdigit()
    )
