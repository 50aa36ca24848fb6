"""The benchmark of adapters runs, at a small size, and says what it measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.adapters import speed


@pytest.mark.real
def test_both_measurements_are_made_and_saved(tmp_path: Path) -> None:
    speed.main(["--layers", "1", "--width", "64", "--pairs", "1", "--results", str(tmp_path)])
    saved = json.loads((tmp_path / "speed.json").read_text(encoding="utf-8"))
    assert saved["command"] == "python -m benchmarks.adapters.speed"
    assert [row[2] for row in saved["rows"]] == ["-", "-", "-", "≤ 0.0001"]
    assert saved["measurements"][2]["relative_difference"] < 1e-4
