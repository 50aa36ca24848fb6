"""Finished work in OUT.partial: taken up again for the same inputs only, and only where it is whole."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from hubmerge.io.finished import finish, finished_before

KNOWN = {"plan": "abc", "states": [["a", 1]]}


def share(found: Mapping[str, Any]) -> float:
    return float(found["share"])


def test_what_was_finished_is_read_again_where_nothing_has_changed(tmp_path: Path) -> None:
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside" / "weights").write_bytes(b"12")
    finish(tmp_path / "mark.json", KNOWN, {"share": 0.5})
    assert finished_before(tmp_path / "mark.json", KNOWN, share) == 0.5
    assert finished_before(tmp_path / "mark.json", {**KNOWN, "plan": "abd"}, share) is None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["inside", "mark.json"]


@pytest.mark.parametrize("text", [None, "", "{", "[]", "{}", '{"identity": {"plan": "abc", "states": [["a", 1]]}}'])
def test_what_is_not_whole_counts_for_nothing(text: str | None, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "mark.json").write_text(text)
    assert finished_before(tmp_path / "mark.json", KNOWN, share) is None
