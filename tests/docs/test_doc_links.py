"""Links lead somewhere, and the pages tell nothing of the machine they were written on."""

from __future__ import annotations

import re
from pathlib import Path

import doc_pages
import pytest


@pytest.mark.parametrize("page", doc_pages.PAGES, ids=lambda page: str(page.relative_to(doc_pages.ROOT)))
def test_every_link_to_a_file_or_a_heading_leads_there(page: Path) -> None:
    dead = []
    for link in doc_pages.links(page):
        if link.startswith(("https://", "http://")):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        if not target.exists() or (anchor and anchor not in doc_pages.anchors(target)):
            dead.append(link)
    assert dead == []


@pytest.mark.parametrize("page", doc_pages.PAGES, ids=lambda page: str(page.relative_to(doc_pages.ROOT)))
def test_a_page_names_no_folder_of_one_machine(page: Path) -> None:
    assert re.findall(r"(?<![\w.])/(?:home|root|tmp|work|Users)\b", page.read_text()) == []


def test_every_file_named_in_the_examples_page_exists() -> None:
    page = doc_pages.ROOT / "examples" / "README.md"
    named = re.findall(r"^\| `([\w./-]+)` \|", page.read_text(), re.MULTILINE)
    assert named
    assert [name for name in named if not (page.parent / name).is_file()] == []


def test_headings_become_anchors_as_on_github(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# What `merge` does\n\n## hubmerge zoo sync\n\n### NaN, weights & co.\n")
    assert doc_pages.anchors(page) == {"what-merge-does", "hubmerge-zoo-sync", "nan-weights--co"}
