"""`User`: somebody at a command line whose Hub is the test Hub, each with a home, and so a Hub cache, of their own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hub.server import HubServer

__all__ = ["User", "together"]

_PROGRAMS = Path(__file__).parent / "programs"


@dataclass
class User:
    """place: where they work.  home: starts empty.  The token is in the environment of what they run, nowhere else."""

    hub: HubServer
    place: Path
    home: Path
    token: str | None
    printed: list[str] = field(default_factory=list)
    """Everything that their commands have printed, on stdout and stderr."""

    def hubmerge(self, *words: str) -> str:
        """stdout of ``hubmerge WORDS``; it must end with exit code 0."""
        return self._run(f"hubmerge {words[0]}", "-m", "hubmerge", *words)

    def program(self, name: str, *words: str) -> Any:
        """What one of the programs of this folder prints as JSON on its last line."""
        return json.loads(self._run(name, str(_PROGRAMS / f"{name}.py"), *words).splitlines()[-1])

    def _run(self, what: str, *words: str) -> str:
        environment = self.hub.environment(self.home, self.token)
        ended = subprocess.run(
            [sys.executable, *words], cwd=self.place, env=environment, capture_output=True, text=True, check=False
        )
        self.printed += [ended.stdout, ended.stderr]
        assert ended.returncode == 0, f"{what} ended with {ended.returncode}\n{ended.stdout}\n{ended.stderr}"
        return ended.stdout


def together(calls: Iterable[Callable[[], Any]]) -> list[Any]:
    """What several calls return, made at the same time: torch has one thread in each process, and a machine two cores."""
    with ThreadPoolExecutor() as pool:
        return [begun.result() for begun in [pool.submit(call) for call in calls]]
