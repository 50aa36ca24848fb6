"""What is generated is in step with the code, and what the code has is documented."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import doc_pages
import pytest

from hubmerge.method import method_names

DOCS = doc_pages.ROOT / "docs"


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    specification = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_no_generated_page_is_stale(generate: ModuleType) -> None:
    stale = [str(page.relative_to(doc_pages.ROOT)) for page in generate.stale_pages()]
    assert stale == [], "run `make docs`"


def test_a_stale_region_is_written_anew_and_the_rest_of_the_page_kept(generate: ModuleType) -> None:
    page = "By hand.\n<!-- generated: method-names -->\n| old |\n<!-- end -->\nBy hand, too.\n"
    fresh = generate.refreshed(page)
    assert "| old |" not in fresh
    assert "[`ties`](docs/methods.md#ties)" in fresh
    assert fresh.startswith("By hand.\n<!-- generated: method-names -->\n")
    assert fresh.endswith("\n<!-- end -->\nBy hand, too.\n")
    assert generate.refreshed(fresh) == fresh


def test_a_check_names_the_stale_page_and_writes_nothing(
    generate: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "README.md"
    page.write_text("<!-- generated: method-names -->\n<!-- end -->\n")
    monkeypatch.setattr(generate, "ROOT", tmp_path)
    monkeypatch.setattr(generate, "pages", lambda: (page,))
    assert generate.main(["--check"]) == 1
    assert page.read_text() == "<!-- generated: method-names -->\n<!-- end -->\n"
    assert generate.main([]) == 0
    assert generate.main(["--check"]) == 0
    assert capsys.readouterr().out == "README.md is stale: run `make docs`\nREADME.md written\n"


def test_every_region_that_can_be_written_is_in_a_page(generate: ModuleType) -> None:
    text = "".join(page.read_text() for page in generate.pages())
    assert [name for name in generate.REGIONS if f"<!-- generated: {name} -->" not in text] == []


@pytest.mark.parametrize("command", ["hubmerge", "hubmerge merge", "hubmerge zoo compatible"])
def test_the_documented_help_is_what_a_terminal_of_80_columns_shows(command: str) -> None:
    program = Path(sys.executable).parent / "hubmerge"
    shown = subprocess.run(
        [program, *command.split()[1:], "--help"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "COLUMNS": "80"},
    )
    assert f"\n## {command}\n\n```text\n{shown.stdout.strip()}\n```\n" in (DOCS / "cli.md").read_text()


def test_every_command_has_a_section(generate: ModuleType) -> None:
    sections = {
        line.removeprefix("## ") for line in (DOCS / "cli.md").read_text().splitlines() if line.startswith("## ")
    }
    commands = {name for name, _ in generate.command_helps()}
    assert {"hubmerge merge", "hubmerge zoo why", "hubmerge publish"} <= commands
    assert commands <= sections


def test_every_method_has_a_section_and_a_link_in_the_readme() -> None:
    page, readme = (DOCS / "methods.md").read_text(), (doc_pages.ROOT / "README.md").read_text()
    for name in method_names():
        assert f"\n## {name}\n" in page
        assert f"[`{name}`](docs/methods.md#{name})" in readme
