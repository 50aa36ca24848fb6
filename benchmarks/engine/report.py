"""What a benchmark hands in: a table for people, and JSON with every single measurement, the machine and the versions."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, is_dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

__all__ = ["Report", "verdict"]

_ROOT = Path(__file__).resolve().parents[2]
_BEGAN, _LOAD = time.time(), os.getloadavg()[0]
"""When this process began, and the load then: most tables are made when all is measured."""


def verdict(value: float, target: float | None, *, at_least: bool = False) -> tuple[str, str]:
    """The cells for a target and for whether it is reached; target None: nothing was promised."""
    if target is None:
        return "-", "-"
    reached = value >= target if at_least else value <= target
    return f"{'≥' if at_least else '≤'} {target:g}", "reached" if reached else "MISSED"


@dataclass
class Report:
    """One benchmark's outcome while it comes about.

    name: of the JSON, and of the command unless `command` is given.  title, explanation: what the table shows.  options: what it ran with.
    measurements: every single number, in any shape JSON has.  began, load: of its command.
    """

    name: str
    title: str
    explanation: str
    columns: tuple[str, ...]
    options: Mapping[str, Any]
    command: str = ""
    rows: list[tuple[str, ...]] = field(default_factory=list)
    measurements: list[Mapping[str, Any]] = field(default_factory=list)
    began: float = _BEGAN
    load: float = _LOAD

    def add(self, row: Sequence[object], **measured: Any) -> None:
        """Add one line of the table, with what it was worked out from, and print it."""
        if not self.rows:
            print(f"{self.title}\n{' | '.join(self.columns)}", flush=True)
        self.rows.append(tuple(map(str, row)))
        self.measurements.append(measured)
        print(" | ".join(self.rows[-1]), flush=True)

    def save(self, folder: Path) -> Path:
        """Write the JSON."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.name}.json"
        content = {
            "name": self.name,
            "title": self.title,
            "explanation": self.explanation,
            "command": f"python -m benchmarks.engine.{self.command or self.name}",
            "options": dict(self.options),
            "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(self.began)),
            "seconds": round(time.time() - self.began),
            "load": [round(self.load, 2), round(os.getloadavg()[0], 2)],
            "machine": _machine(),
            "versions": _versions(),
            "commit": _commit(),
            "columns": self.columns,
            "rows": self.rows,
            "measurements": self.measurements,
        }
        text = json.dumps(content, indent=1, ensure_ascii=False, default=_plain)
        path.write_text(text + "\n", encoding="utf-8")
        print(f"load {content['load']}, {path}", flush=True)
        return path


def _plain(value: object) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return {key: item for key, item in asdict(value).items() if item is not None}
    raise TypeError(f"{type(value).__name__} is no JSON")


def _machine() -> dict[str, Any]:
    """The processor, cores and memory this ran on; no names of hosts, people or folders."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return {
        "processor": model or platform.processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "system": f"{platform.system()} {platform.release()}",
    }


def _versions() -> dict[str, str]:
    names = ("hubmerge", "numba", "llvmlite", "numpy")
    return {"python": platform.python_version()} | {name: version(name) for name in names}


def _commit() -> str:
    """The commit that was measured, with + when the working tree differs from it."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(_ROOT), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no", "--", "hubmerge", "zoo_index")
    return git("rev-parse", "--short=12", "HEAD") + ("+" if changed else "")
