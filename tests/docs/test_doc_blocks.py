"""Every code block of the documentation does what the page says: it is run, or the page says why it cannot be."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import doc_pages
import pytest
from doc_commands import run_script
from doc_pages import Block

import hubmerge
from cards import Suite
from hubmerge.dialect import read_yaml

RUNNABLE = {"bash", "python", "yaml"}
SHOWN = {"text", "console"}
PAGES = [page for page in doc_pages.PAGES if page.name != "CONTRIBUTING.md"]  # its blocks make one file tree, see there

FRAME: dict[str, Any] = {
    "merge_method": "ties",
    "base_model": "./hubmerge-demo/models/digits-base",
    "models": [{"model": "./hubmerge-demo/models/digits-low"}, {"model": "./hubmerge-demo/models/digits-high"}],
}
"""What a YAML block without `merge_method` and `combine` is put into."""


def _named(page: Path) -> str:
    return str(page.relative_to(doc_pages.ROOT))


def _run(block: Block, names: dict[str, Any]) -> str:
    """Run one block in the current folder; what it printed, both streams in one."""
    if block.language == "bash":
        code, printed = run_script(block.text)
        wanted = 1 if block.mark == "exit 1" else 0
        assert code == wanted, f"{block.place} ended with {code}\n{printed}"
        return printed
    if block.language == "python":
        exec(compile("\n" * (block.line - 1) + block.text, str(block.page), "exec"), names)
        return ""
    content = read_yaml(block.text, block.place)
    if "tasks" in content:
        Suite.model_validate(content)
        return ""
    hubmerge.build_plan(content if {"merge_method", "combine"} & set(content) else {**FRAME, **content})
    return ""


def _run_page(page: Path, *, slow: bool) -> int:
    """Run the blocks of a page in order, the slow ones only if asked for; how many were run."""
    names: dict[str, Any] = {"__name__": page.stem}
    count, printed = 0, ""
    was_run = True
    for block in doc_pages.blocks(page):
        if block.mark.startswith("file: "):
            Path(block.mark.removeprefix("file: ")).write_text(block.text, encoding="utf-8")
        elif block.mark == "output":
            assert block.text == printed or not was_run, f"{block.place} is not what the block before it prints"
        elif block.language in RUNNABLE and not block.is_left_out:
            was_run = slow or not block.is_slow
            if was_run:
                printed = _run(block, names)
                count += 1
    return count


def _commands_in_tables(page: Path) -> list[str]:
    """Commands that are the last cell of a row: what shows a claim, or how to try an example."""
    return re.findall(r"^\|.*\| `((?:hubmerge|python) [^`]+)` \|$", page.read_text(encoding="utf-8"), re.MULTILINE)


@pytest.mark.parametrize(
    "page", [p for p in PAGES if any(b.language in RUNNABLE for b in doc_pages.blocks(p))], ids=_named
)
def test_the_blocks_of_a_page_run_in_order(page: Path, place: Path) -> None:
    assert _run_page(page, slow=False) > 0


@pytest.mark.real
@pytest.mark.parametrize("page", [p for p in PAGES if any(b.is_slow for b in doc_pages.blocks(p))], ids=_named)
def test_a_page_runs_on_trained_models_and_then_the_commands_in_its_tables(page: Path, trained_place: Path) -> None:
    assert _run_page(page, slow=True) > 0
    commands = _commands_in_tables(page)
    assert commands or page.name != "README.md"
    _run(Block(page, 0, "bash", "\n".join(commands), ""), {})


@pytest.mark.parametrize(
    "block", [b for p in doc_pages.PAGES for b in doc_pages.blocks(p)], ids=lambda block: block.place
)
def test_a_block_has_a_language_and_a_mark_that_mean_something(block: Block) -> None:
    assert block.language in RUNNABLE | SHOWN
    marks = ("slow", "not run: ", "exit 1", "output", "file: ")
    assert not block.mark or block.mark.startswith((*marks, "generated: "))
    assert block.language not in SHOWN or not block.is_slow


@pytest.mark.real
def test_the_commands_of_the_examples_page_succeed(trained_place: Path) -> None:
    page = doc_pages.ROOT / "examples" / "README.md"
    shutil.copytree(page.parent, trained_place / "examples")
    commands = _commands_in_tables(page)
    assert len(commands) > len(list((page.parent / "recipes").iterdir()))
    commands += [line.removeprefix("$ ") for block in doc_pages.blocks(page) for line in block.text.splitlines()]
    _run(Block(page, 0, "bash", "\n".join(commands), ""), {})


def test_an_output_that_differs_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doc_pages, "ROOT", tmp_path)
    page = tmp_path / "page.md"
    page.write_text("```bash\necho one\n```\n\n<!-- output -->\n```text\ntwo\n```\n")
    with pytest.raises(AssertionError, match=r"page\.md:7 is not what the block before it prints"):
        _run_page(page, slow=False)
    page.write_text(page.read_text().replace("two", "one"))
    assert _run_page(page, slow=False) == 1
