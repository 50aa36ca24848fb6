"""What the commands of this benchmark are told: which models, which seeds, and where texts and experts are kept."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.text_tasks.settings import SEEDS
from benchmarks.text_tasks.trainings import BASES, Base

__all__ = ["Options", "parser", "prepared"]


@dataclass(frozen=True)
class Options:
    """What was asked for.  ways: keys of the lines to measure, None for all."""

    bases: tuple[Base, ...]
    seeds: tuple[int, ...]
    cache: Path
    results: Path
    ways: tuple[str, ...] | None = None


def parser(description: str | None) -> argparse.ArgumentParser:
    """A parser with the shared options; of the description, a module's docstring, the first paragraph is shown."""
    commands = argparse.ArgumentParser(description=(description or "").split("\n\n", maxsplit=1)[0])
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "hubmerge-benchmarks"
    names = [base.name for base in BASES]
    commands.add_argument("--models", nargs="+", choices=names, default=names)
    commands.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    commands.add_argument(
        "--cache",
        type=Path,
        default=Path(os.environ.get("HUBMERGE_BENCH_MODELS") or cache) / "text_tasks",
        help="folder of texts and experts (text_tasks in HUBMERGE_BENCH_MODELS)",
    )
    commands.add_argument("--results", type=Path, default=Path(__file__).parent / "results", help="folder for the JSON")
    return commands


def prepared(commands: argparse.ArgumentParser, arguments: Sequence[str] | None) -> Options:
    """The options, in a process of one thread: models this small train as fast on it, and the same machine gives the same numbers."""
    import torch
    from transformers.utils import logging

    torch.set_num_threads(1)
    logging.disable_progress_bar()
    given = commands.parse_args(arguments)
    bases = tuple(base for base in BASES if base.name in given.models)
    ways = getattr(given, "ways", None)
    return Options(bases, tuple(given.seeds), given.cache, given.results, None if ways is None else tuple(ways))
