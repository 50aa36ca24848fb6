"""`DemoFolder`: where the demo's files lie, and the promise to touch no others."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from hubmerge.version import __version__
from zoo_index.errors import HubmergeError

__all__ = [
    "ALL",
    "BASE",
    "HIGH",
    "LOW",
    "MARKER",
    "METHODS",
    "PUBLISHED_METHOD",
    "STRANGERS_METHOD",
    "WIDE",
    "DemoError",
    "DemoFolder",
    "spelling",
]

MARKER = ".hubmerge-demo.json"
"""The file that says a folder was made by the demo."""

BASE, LOW, HIGH, WIDE, ALL = "digits-base", "digits-low", "digits-high", "digits-high-wide", "digits-all"
METHODS = ("task_arithmetic", "ties", "linear", "slerp")
PUBLISHED_METHOD = "task_arithmetic"
"""The merge that gets a card and is published.

Fixed here, before any number of the run is known: to publish whichever of four merges scored best on the held-out
pictures would make its score there too good to believe.
"""

STRANGERS_METHOD = "pleas"
"""The method that merges `LOW` and `WIDE`, which share no ancestor."""

_HINT = "name another folder: hubmerge demo FOLDER"


class DemoError(HubmergeError):
    """The demo's folder is not one that it may write into."""


@dataclass(frozen=True)
class DemoFolder:
    """Every path of the demo below `root`, spelt the way the user spelt `root`."""

    root: Path

    @property
    def models(self) -> Path:
        """The zoo: one folder for each model that somebody could have published."""
        return self.root / "models"

    def model(self, name: str) -> Path:
        return self.models / name

    @property
    def reference(self) -> Path:
        """The model trained on all pictures in one place, which nobody in the story could train."""
        return self.root / "reference" / ALL

    @property
    def pictures(self) -> Path:
        """The held-out pictures: ``low/0/*.png`` to ``high/9/*.png``."""
        return self.root / "heldout"

    @property
    def unlabelled(self) -> Path:
        """Training pictures without their labels, ``0000.png`` and on: calibration data."""
        return self.root / "unlabelled"

    @property
    def suite(self) -> Path:
        return self.root / "suite.yaml"

    @property
    def recipes(self) -> Path:
        return self.root / "recipes"

    def recipe(self, method: str) -> Path:
        return self.recipes / f"{method}.yaml"

    def merged(self, method: str) -> Path:
        return self.root / "merged" / f"digits-{method.replace('_', '-')}"

    @property
    def published(self) -> Path:
        return self.root / "published" / self.merged(PUBLISHED_METHOD).name

    @property
    def catalog(self) -> Path:
        return self.root / "zoo.duckdb"

    @property
    def results(self) -> Path:
        return self.root / "results.json"

    @property
    def strangers_results(self) -> Path:
        """Scores of `LOW`, `WIDE` and their merge."""
        return self.root / "results-strangers.json"

    @property
    def own(self) -> tuple[Path, ...]:
        """Every file and folder that a run makes anew.  Recipes are not among them: they are there to be edited."""
        merges = [self.merged(method) for method in (*METHODS, STRANGERS_METHOD)]
        partial = [merge.with_name(merge.name + ".partial") for merge in merges]
        models = [self.model(name) for name in (BASE, LOW, HIGH, WIDE)]
        write_ahead_log = self.catalog.with_name(self.catalog.name + ".wal")
        files = [self.suite, self.catalog, write_ahead_log, self.results, self.strangers_results]
        folders = (self.reference, self.pictures, self.unlabelled, self.published)
        return (*models, *folders, *merges, *partial, *files)

    def prepare(self) -> None:
        """Make `root` and mark it; from an earlier demo remove what this run makes anew, and nothing else.

        Raises `DemoError` when `root` is a file, a folder with something in it that no demo made, or cannot be written.
        """
        marker = self.root / MARKER
        if "+" in str(self.root):
            raise DemoError("a + in a folder's name reads as base+adapter", where=str(self.root), hint=_HINT)
        if self.root.exists() and not self.root.is_dir():
            raise DemoError("a file is in the way of the demo's folder", where=str(self.root), hint=_HINT)
        if self.root.is_dir() and any(self.root.iterdir()) and not marker.is_file():
            raise DemoError("the folder exists and was not made by the demo", where=str(self.root), hint=_HINT)
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            for path in self.own:
                _remove(path)
            marker.write_text(json.dumps({"made_by": "hubmerge demo", "hubmerge_version": __version__}) + "\n")
        except OSError as error:
            raise DemoError(
                f"the folder cannot be written ({error.strerror})", where=str(self.root), hint=_HINT
            ) from error


def spelling(path: Path) -> str:
    """A folder as a model reference spells it: absolute, or starting with ``./`` or ``../``."""
    text = path.as_posix()
    return text if path.is_absolute() or text.startswith("../") else f"./{text}"


def _remove(path: Path) -> None:
    """Remove a folder and what is in it, or a file; of a link the link, never what it points to."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
