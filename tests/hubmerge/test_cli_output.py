"""How facts, faults and tables are printed."""

from __future__ import annotations

import json
import sys

import pytest

from hubmerge.cli import output
from hubmerge.cli.output import Format


def test_numbers_are_to_the_right_and_words_to_the_left(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_table(
        ("model", "accuracy", "size"), [("a", 0.5, "1,000"), ("bb", 0.98765, "20"), ("c", None, "-")], title="digits"
    )
    assert capsys.readouterr().out == (
        "digits\n"
        "model  accuracy   size\n"
        "a           0.5  1,000\n"
        "bb       0.9877     20\n"
        "c             -      -\n"
    )  # fmt: skip


def test_switches_are_printed_as_recipes_write_them(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_table(("name", "default"), [("normalize", True), ("other", False)])
    assert capsys.readouterr().out == "name       default\nnormalize  true\nother      false\n"


def test_an_empty_table_is_its_heads(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_table(("a", "b"), [])
    assert capsys.readouterr().out == "a  b\n"


WIDE = [("awd", "inner, alpha", "subtract what is shared"), ("x", "-", "b")]
IN_FULL = ["name  has           does", "awd   inner, alpha  subtract what is shared", "x     -             b"]
IN_TWO = [IN_FULL[0], "awd   inner, alpha  subtract what is", "                    shared", IN_FULL[2]]
IN_LINES = [
    "name  has     does",
    "awd   inner,  subtract",
    "      alpha   what is",
    "              shared",
    "x     -       b",
]


@pytest.mark.parametrize(
    ("width", "lines"), [(43, IN_FULL), (42, IN_TWO), (30, IN_LINES), (22, IN_LINES), (21, IN_FULL)]
)
def test_on_a_terminal_words_are_told_in_lines_below_each_other_where_the_table_is_too_wide(
    width: int, lines: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """43 columns are needed, of which words allow to spare 21; where that is not enough the table is left as it is."""
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    output.print_table(("name", "has", "does"), WIDE)
    assert capsys.readouterr().out.splitlines() == lines


def test_a_table_that_is_piped_is_as_wide_as_it_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "24")
    output.print_table(("name", "has", "does"), WIDE)
    assert capsys.readouterr().out.splitlines() == IN_FULL


@pytest.mark.parametrize(
    ("form", "flag", "printed"),
    [
        (Format.table, False, "table\n"),
        (Format.quiet, False, "1\n2\n"),
        (Format.json, False, "json"),
        (Format.quiet, True, "json"),
    ],
)
def test_one_answer_in_the_form_that_was_asked_for(
    form: Format, flag: bool, printed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    output.emit(form, flag, data=lambda: {"ä": 1}, table=lambda: output.say("table"), quiet=lambda: [1, 2])
    out = capsys.readouterr().out
    assert (json.loads(out) == {"ä": 1} and "ä" in out) if printed == "json" else out == printed


def test_a_fault_is_one_line_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    output.error("what · where\nelse · hint")
    assert capsys.readouterr() == ("", "error: what · where else · hint\n")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain text", "plain text"),
        ("λ · ± 你好 😀", "λ · ± 你好 😀"),
        ("a\x1b[31mred", "a\ufffd[31mred"),
        ("a\x9b31m\x7f\r\b", "a\ufffd31m\ufffd\ufffd\ufffd"),
        ("half \ud800", "half \ufffd"),
        ("tab\tand\nline", "tab\tand\nline"),
    ],
)
def test_what_cannot_be_printed_is_shown_as_such(text: str, shown: str, capsys: pytest.CaptureFixture[str]) -> None:
    output.say(text)
    output.note(text)
    assert capsys.readouterr() == (shown + "\n", shown + "\n")


def test_progress_is_silent_where_nobody_watches(capsys: pytest.CaptureFixture[str]) -> None:
    with output.progress("merging", 10) as advance:
        advance(10)
    assert capsys.readouterr() == ("", "")
