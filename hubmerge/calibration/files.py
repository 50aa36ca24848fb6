"""Which local files a calibration set is made of: its name and split -> `DataFiles`.  Opens none of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hubmerge.errors import PlanError
from hubmerge.recipe_calibration import Calibration
from zoo_index.reference import ModelRef

__all__ = ["IMAGE_SUFFIXES", "DataFiles", "FileKind", "find_files"]

FileKind = Literal["json", "csv", "parquet", "text", "npz", "images"]

IMAGE_SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
_KINDS: dict[str, FileKind] = {
    ".jsonl": "json", ".json": "json", ".csv": "csv", ".parquet": "parquet", ".txt": "text", ".npz": "npz",
}  # fmt: skip
_SPLITS = frozenset({"train", "training", "test", "testing", "validation", "valid", "val", "dev", "eval"})
_DEFAULT_SPLIT = "train"
_DATA, _SPLIT = "calibration.data", "calibration.split"


@dataclass(frozen=True)
class DataFiles:
    """The files of one set, all of one `kind`, sorted by their path; names of images in their rows are relative to `root`."""

    root: Path
    kind: FileKind
    files: tuple[Path, ...]


def find_files(calibration: Calibration) -> DataFiles | None:
    """The files of the set; None when its name is that of a dataset on the Hub.

    A folder is one of images, or of data files (.jsonl, .json, .csv, .parquet, .txt, .npz) of one kind.  The split names a
    folder in it or the files ``split.*`` and ``split-*``; a folder without splits is taken whole.  Raises `PlanError` when
    nothing is there, when kinds are mixed, and when the split is not there.
    """
    reference = ModelRef.of(calibration.data)
    path = reference.path
    if not reference.is_local and (reference.revision is not None or not path.is_dir()):
        return None
    split = calibration.split
    if path.is_file():
        return _one_file(path, split)
    if not path.is_dir():
        hint = f"looked from {Path.cwd()}; name a file, a folder, or a dataset on the Hub"
        raise PlanError(f"{calibration.data} does not exist", where=_DATA, hint=hint)
    inside = path / split
    files = _visible(inside if inside.is_dir() else path)
    images = tuple(file for file in files if file.suffix.lower() in IMAGE_SUFFIXES)
    rows = tuple(file for file in files if file.suffix.lower() in _KINDS)
    if images and rows:
        hint = f"name {rows[0].name} itself in data, or move it away"
        raise PlanError(f"both images and {rows[0].name} are in {calibration.data}", where=_DATA, hint=hint)
    if not images and not rows:
        hint = f"data files end in {', '.join(_KINDS)}"
        raise PlanError(f"no images and no data files are in {calibration.data}", where=_DATA, hint=hint)
    if inside.is_dir():
        return _of_one_kind(inside, images or rows)
    return _of_one_kind(path, _of_split(path, images or rows, split))


def _one_file(path: Path, split: str) -> DataFiles:
    kind = _KINDS.get(path.suffix.lower())
    if kind is None:
        raise PlanError(f"{path.name} is of no known kind", where=_DATA, hint=f"one of {', '.join(_KINDS)}")
    if split != _DEFAULT_SPLIT:
        raise PlanError(f"a file has no split {split!r}", where=_SPLIT, hint="name the file of that split in data")
    return DataFiles(path.parent, kind, (path,))


def _visible(folder: Path) -> list[Path]:
    found = (file for file in folder.rglob("*") if file.is_file())
    return sorted(file for file in found if not any(part.startswith(".") for part in file.relative_to(folder).parts))


def _of_split(root: Path, files: tuple[Path, ...], split: str) -> tuple[Path, ...]:
    """The files of a split by their names; all of them where no name speaks of splits and none was asked for."""
    chosen = tuple(file for file in files if _split_name(root, file) == split)
    known = sorted({name for file in files if (name := _split_name(root, file)) in _SPLITS})
    if chosen:
        return chosen
    if known or split != _DEFAULT_SPLIT:
        hint = f"one of {', '.join(known)}" if known else "leave split out"
        raise PlanError(f"no split {split!r} in {root.name}", where=_SPLIT, hint=hint)
    return files


def _split_name(root: Path, file: Path) -> str:
    """The folder that a file lies in where that is called as splits are, else the first word of its name."""
    folder = file.relative_to(root).parts[0]
    return folder if folder in _SPLITS else file.stem.partition("-")[0]


def _of_one_kind(root: Path, files: tuple[Path, ...]) -> DataFiles:
    kinds = sorted({_KINDS.get(file.suffix.lower(), "images") for file in files})
    if len(kinds) > 1:
        message = f"files of {len(kinds)} kinds ({', '.join(kinds)}) are in {root.name}"
        raise PlanError(message, where=_DATA, hint="name one file in data")
    return DataFiles(root, kinds[0], files)
