"""How these benchmarks leave their tables: the engine's JSON, with their own command and the versions of what trained and merged."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path

from benchmarks.engine.report import Report

__all__ = ["save_report"]


def save_report(module: str, report: Report, folder: Path, package: str = "heterogeneous") -> None:
    """Write the report's JSON; module: the one of the package whose command made it."""
    path = report.save(folder)
    content = json.loads(path.read_text(encoding="utf-8"))
    content["command"] = f"python -m benchmarks.{package}.{module}"
    content["versions"] |= {name: version(name) for name in ("torch", "transformers", "scipy")}
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
