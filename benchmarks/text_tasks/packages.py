"""Packages unpacked for the sake of the texts in them: Debian's by `apt-get download`, and one wheel by pip; nothing is installed."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.text_tasks.settings import LICENCES, Task

__all__ = ["unpacked", "versions"]

_VERSION = "version"


def unpacked(cache: Path, tasks: Sequence[Task]) -> Path:
    """The folder with one folder for each package that the tasks' texts are in, fetched where it is not there.

    RuntimeError where a package cannot be had: Debian's are those of Debian 12, and `apt-get update` must have run once.
    """
    folder = cache / "packages"
    folder.mkdir(parents=True, exist_ok=True)
    names = dict.fromkeys(name for task in tasks for label in task.labels for name in label.packages)
    for name in names:
        if not (folder / name).is_dir():
            _debian(name, folder)
    if any(task.sort == "licences" for task in tasks) and not (folder / "licences").is_dir():
        _wheel(LICENCES, folder)
    return folder


def versions(cache: Path) -> dict[str, str]:
    """Package -> the version that lies in the cache."""
    return {
        path.parent.name: path.read_text(encoding="utf-8").strip()
        for path in sorted((cache / "packages").glob(f"*/{_VERSION}"))
    }


def _debian(name: str, folder: Path) -> None:
    fetched = folder / f"{name}.partial"
    shutil.rmtree(fetched, ignore_errors=True)
    (fetched / "deb").mkdir(parents=True)
    _run(["apt-get", "download", "-q", name], fetched / "deb")
    (file,) = (fetched / "deb").glob("*.deb")
    _run(["dpkg-deb", "-x", str(file), str(fetched)], folder)
    (fetched / _VERSION).write_text(file.name.split("_")[1].replace("%3a", ":") + "\n", encoding="utf-8")
    shutil.rmtree(fetched / "deb")
    fetched.rename(folder / name)


def _wheel(requirement: str, folder: Path) -> None:
    fetched = folder / "licences.partial"
    shutil.rmtree(fetched, ignore_errors=True)
    fetched.mkdir()
    _run([sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(fetched), requirement], folder)
    (file,) = fetched.glob("*.whl")
    with zipfile.ZipFile(file) as wheel:
        wheel.extractall(fetched)
    file.unlink()
    (fetched / _VERSION).write_text(requirement + "\n", encoding="utf-8")
    fetched.rename(folder / "licences")


def _run(command: list[str], folder: Path) -> None:
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise RuntimeError(f"{command[0]} is needed to fetch the texts, which are in packages of Debian") from error
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()[-500:]}")
