"""What every benchmark is told: where models, outputs and results go, and how often to repeat."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

__all__ = ["Options", "parser"]

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Options:
    """The options all benchmarks share.

    models: the cache of synthetic models.  results: where the JSON goes.  mergekit: a virtual environment that has
    mergekit 0.1.5, or None.
    """

    models: Path
    results: Path
    mergekit: Path | None

    @classmethod
    def of(cls, given: argparse.Namespace) -> Options:
        mergekit = Path(given.mergekit).absolute() if given.mergekit else None  # a link to python must stay a link
        return cls(Path(given.models).resolve(), Path(given.results).resolve(), mergekit)

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """A folder for outputs, on the disk of the models; removed at the end."""
        self.models.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix="scratch-", dir=self.models) as name:
            yield Path(name)


def parser(description: str | None) -> argparse.ArgumentParser:
    """A parser with the shared options; `description` is the module's docstring, of which the first paragraph is shown."""
    commands = argparse.ArgumentParser(description=(description or "").split("\n\n", maxsplit=1)[0])
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "hubmerge-benchmarks"
    commands.add_argument(
        "--models",
        default=os.environ.get("HUBMERGE_BENCH_MODELS", cache),
        help="folder of the synthetic models and of outputs while they are needed (HUBMERGE_BENCH_MODELS)",
    )
    commands.add_argument("--results", default=RESULTS, help="folder for the JSON")
    commands.add_argument(
        "--mergekit",
        default=os.environ.get("HUBMERGE_BENCH_MERGEKIT"),
        help="virtual environment with mergekit 0.1.5 (HUBMERGE_BENCH_MERGEKIT)",
    )
    return commands
