"""The worked example of CONTRIBUTING: its method and its test are laid into the package as told, and the test passes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import doc_pages
import pytest

BLOCKS = doc_pages.blocks(doc_pages.ROOT / "CONTRIBUTING.md")
FILES = {block.mark.removeprefix("file: "): block.text for block in BLOCKS if block.mark.startswith("file: ")}

# The folder becomes one more place where modules of hubmerge.methods are looked for.
RUN = """
import sys, hubmerge.methods
hubmerge.methods.__path__.append(".")
{body}
"""
PYTEST = "import pytest; sys.exit(pytest.main(['-q', '-p', 'no:cacheprovider', 'test_largest.py']))"
DESCRIBE = "import hubmerge.methods.largest; from hubmerge.cli.app import main; sys.argv = ['hubmerge', 'methods', 'largest']; main()"


@pytest.fixture
def example(own_settings: Path) -> Path:
    for name, text in FILES.items():
        (own_settings / name).write_text(text)
    return own_settings


def _run(body: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", RUN.format(body=body)], capture_output=True, text=True, check=False)


def test_the_example_is_a_method_and_a_test() -> None:
    assert list(FILES) == ["largest.py", "test_largest.py"]


def test_the_worked_example_passes_its_own_test(example: Path) -> None:
    ended = _run(PYTEST)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "2 passed" in ended.stdout


def test_the_worked_example_fails_its_test_when_its_rule_is_wrong(example: Path) -> None:
    (example / "largest.py").write_text(
        FILES["largest.py"].replace("abs(delta) > abs(kept)", "abs(delta) >= abs(kept)")
    )
    ended = _run(PYTEST)
    assert ended.returncode == 1
    assert "1 failed, 1 passed" in ended.stdout


def test_the_worked_example_is_described_like_every_method(example: Path) -> None:
    ended = _run(DESCRIBE)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith("largest (entrywise)\nKeep the delta of the largest magnitude.\n")
    parameters = [line.split() for line in ended.stdout.splitlines() if line.startswith("lambda ")]
    assert parameters == [["lambda", "merge", "1", "scale", "of", "the", "merged", "delta"]]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("arguments", [("check",), ("format", "--check")], ids=" ".join)
def test_the_worked_example_is_clean_where_it_would_lie(name: str, arguments: tuple[str, ...]) -> None:
    place = {"largest.py": "hubmerge/methods", "test_largest.py": "tests/hubmerge"}[name]
    ended = subprocess.run(
        [sys.executable, "-m", "ruff", *arguments, "--stdin-filename", f"{place}/{name}", "-"],
        input=FILES[name], cwd=doc_pages.ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.language == "python" and not b.mark], ids=lambda b: b.place)
def test_the_other_python_blocks_run(block: doc_pages.Block) -> None:
    exec(compile(block.text, block.place, "exec"), {})
