"""Shell blocks of the documentation: `hubmerge` commands run in this process, where torch is imported already; all else in bash."""

from __future__ import annotations

import io
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout

import pytest

from hubmerge.cli.app import main

__all__ = ["run_script"]

_SHELL = re.compile(r"[|<>;&$`]")
"""What only a shell can do with a line."""


def run_script(script: str) -> tuple[int, str]:
    """Run the lines in order until one fails; the exit code and what was printed, both streams in one."""
    printed = ""
    for words, text in _parts(script):
        code, told = _command(words) if words else _shell(text)
        printed += told
        if code:
            return code, printed
    return 0, printed


def _parts(script: str) -> Iterator[tuple[list[str], str]]:
    """The words of a `hubmerge` command, or the text of the lines up to the next one."""
    rest: list[str] = []
    for line in script.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True) if line.startswith("hubmerge ") else []
        if not words or any(map(_SHELL.search, words)):
            rest.append(line)
            continue
        if rest:
            yield [], "\n".join(rest)
            rest = []
        yield words, line
    if rest:
        yield [], "\n".join(rest)


def _command(words: list[str]) -> tuple[int, str]:
    printed = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(printed), redirect_stderr(printed):
        patch.setattr(sys, "argv", words)
        try:
            main()
            code = 0
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else bool(ended.code)
    return code, printed.buffer.getvalue().decode()  # type: ignore[attr-defined]


def _shell(text: str) -> tuple[int, str]:
    ended = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", text],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return ended.returncode, ended.stdout
