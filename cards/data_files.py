"""Which files a task's data is made of, what their digest is: path + split -> `DataFiles`.  Opens no dataset."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cards.errors import SuiteError

__all__ = ["IMAGE_SUFFIXES", "DataFiles", "digest_files", "find_files"]

Kind = Literal["images", "json", "csv", "parquet", "text"]

IMAGE_SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".pgm", ".tif", ".tiff", ".webp"})
_ROW_KINDS: dict[str, Kind] = {
    ".jsonl": "json", ".json": "json", ".csv": "csv", ".parquet": "parquet", ".txt": "text",
}  # fmt: skip
_SPLIT_NAMES = frozenset({"train", "training", "test", "testing", "validation", "valid", "val", "dev", "eval"})


@dataclass(frozen=True)
class DataFiles:
    """The files of one task: `files` sorted by their path relative to `root`, all of one `kind`.

    images: every file lies in a subfolder of `root` that is named after its label.
    """

    root: Path
    kind: Kind
    files: tuple[Path, ...]

    @property
    def sha256(self) -> str:
        """Digest over the files' names relative to `root` and their bytes."""
        return digest_files(self.root, self.files)


def digest_files(root: Path, files: Iterable[Path]) -> str:
    """sha256 over one line per file, sorted by name: its POSIX path relative to `root`, NUL, sha256 of its bytes."""
    names = sorted((file.relative_to(root).as_posix(), file) for file in files)
    total = hashlib.sha256()
    for name, file in names:
        with file.open("rb") as stream:
            total.update(f"{name}\0{hashlib.file_digest(stream, 'sha256').hexdigest()}\n".encode())
    return total.hexdigest()


def find_files(path: Path, split: str | None, *, where: str) -> DataFiles:
    """The files of the data at `path`; `where` names the task in errors.

    A file is itself.  A folder is an image folder when its subfolders hold images, else its row files (.jsonl,
    .json, .csv, .parquet, .txt), all of one kind.  `split` names a subfolder or the files ``split.*`` and ``split-*``.
    Raises `SuiteError` when nothing fits, when kinds are mixed, or when the data has splits and none was named.
    """
    if path.is_file():
        if split is not None:
            raise SuiteError(f"a file has no split {split!r}", where=where, hint="name the file of that split in data")
        kind = _ROW_KINDS.get(path.suffix.lower())
        if kind is None:
            raise SuiteError(f"{path.name} is of no known kind", where=where, hint=f"one of {', '.join(_ROW_KINDS)}")
        return DataFiles(path.parent, kind, (path,))
    if not path.is_dir():
        raise SuiteError(f"data {str(path)!r} does not exist", where=where, hint="paths are relative to the suite file")
    if split is not None and (path / split).is_dir():
        path, split = path / split, None
    files = _visible(path)
    images = tuple(file for file in files if file.suffix.lower() in IMAGE_SUFFIXES)
    rows = tuple(file for file in files if file.suffix.lower() in _ROW_KINDS)
    if rows and not images:
        return _row_files(path, rows, split, where)
    if not images:
        raise SuiteError(
            f"no images and no data files in {path.name}",
            where=where,
            hint="an image folder, or .jsonl, .csv, .parquet or .txt files",
        )
    if rows:
        hint = f"name {rows[0].name} itself in data, or move it away"
        raise SuiteError(f"both images and {rows[0].name} are in {path.name}", where=where, hint=hint)
    return _image_files(path, images, split, where)


def _visible(folder: Path) -> list[Path]:
    found = (file for file in folder.rglob("*") if file.is_file())
    return sorted(file for file in found if not any(part.startswith(".") for part in file.relative_to(folder).parts))


def _row_files(path: Path, rows: tuple[Path, ...], split: str | None, where: str) -> DataFiles:
    splits = sorted({file.stem.partition("-")[0] for file in rows} & _SPLIT_NAMES)
    splits += sorted({file.relative_to(path).parts[0] for file in rows if file.parent != path} & _SPLIT_NAMES)
    if split is not None:
        rows = tuple(file for file in rows if file.stem == split or file.stem.startswith(f"{split}-"))
        if not rows:
            known = f"one of {', '.join(splits)}" if splits else "leave split out"
            raise SuiteError(f"no split {split!r} in {path.name}", where=where, hint=known)
    elif splits:
        raise SuiteError(f"the data has splits ({', '.join(splits)})", where=where, hint=f"add split: {splits[0]}")
    kinds = sorted({_ROW_KINDS[file.suffix.lower()] for file in rows})
    if len(kinds) > 1:
        raise SuiteError(
            f"files of {len(kinds)} kinds ({', '.join(kinds)}) in {path.name}",
            where=where,
            hint="name one file in data",
        )
    return DataFiles(path, kinds[0], rows)


def _image_files(path: Path, images: tuple[Path, ...], split: str | None, where: str) -> DataFiles:
    splits = sorted(entry.name for entry in path.iterdir() if entry.is_dir() and entry.name in _SPLIT_NAMES)
    if split is not None:
        known = f"one of {', '.join(splits)}" if splits else "leave split out"
        raise SuiteError(f"no split {split!r} in {path.name}", where=where, hint=known)
    if splits and len({file.relative_to(path).parts[0] for file in images}) == len(splits):
        raise SuiteError(f"the data has splits ({', '.join(splits)})", where=where, hint=f"add split: {splits[0]}")
    loose = [file for file in images if len(file.relative_to(path).parts) != 2]
    if loose:
        name = loose[0].relative_to(path).as_posix()
        raise SuiteError(
            f"image {name} is not in a subfolder named after its label", where=where, hint="LABEL/image.png"
        )
    return DataFiles(path, "images", images)
