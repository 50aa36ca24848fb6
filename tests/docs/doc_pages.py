"""The documentation as data: its pages, their code blocks with marks, their headings and links."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from markdown_it import MarkdownIt

ROOT = Path(__file__).resolve().parents[2]
PAGES = (
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").glob("*.md")),
    ROOT / "examples" / "README.md",
)

_MARK = re.compile(r"<!-- (.*?) -->\s*\Z", re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced code block.

    language: the word after the fence.  mark: the comment on the line before it, which says how it is tested:

    nothing     bash is run, Python is executed, YAML is planned as a recipe (all in order, in one folder per page)
    slow        as above, among the tests with real models
    not run     it cannot be run here; the reason follows the colon
    exit 1      it must end with this code
    output      the block is what the block before printed, both streams in one
    file: NAME  the block is a file that the blocks after it find under this name
    """

    page: Path
    line: int
    language: str
    text: str
    mark: str

    @property
    def place(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def is_slow(self) -> bool:
        return self.mark.startswith("slow")

    @property
    def is_left_out(self) -> bool:
        return self.mark.startswith("not run: ")


def blocks(page: Path) -> tuple[Block, ...]:
    """Every fenced block of a page, in order."""
    return _blocks(page, page.read_text(encoding="utf-8"))


@cache
def _blocks(page: Path, text: str) -> tuple[Block, ...]:
    found: list[Block] = []
    mark = ""
    for token in MarkdownIt().parse(text):
        if token.type == "html_block":
            comment = _MARK.search(token.content)
            mark = comment[1] if comment else ""
        elif token.type == "fence":
            assert token.map is not None
            found.append(Block(page, token.map[0] + 2, token.info.strip(), token.content, mark))
            mark = ""
        elif token.type != "paragraph_close":
            mark = ""
    return tuple(found)


def links(page: Path) -> tuple[str, ...]:
    """Every link target and picture of a page, in order."""
    tokens = MarkdownIt("gfm-like", {"linkify": False}).parse(page.read_text(encoding="utf-8"))
    inner = [child for token in tokens if token.type == "inline" for child in token.children or ()]
    found = [token.attrGet("href") or token.attrGet("src") for token in inner if token.type in {"link_open", "image"}]
    return tuple(str(target) for target in found)


def anchors(page: Path) -> frozenset[str]:
    """The anchors that GitHub gives the headings of a page."""
    tokens = MarkdownIt().parse(page.read_text(encoding="utf-8"))
    titles = [tokens[i + 1].content for i, token in enumerate(tokens) if token.type == "heading_open"]
    return frozenset(re.sub(r"[^\w\- ]", "", title.replace("`", "").lower()).replace(" ", "-") for title in titles)
