"""GGUF files as parents: found behind a reference, converted once, and kept under ``HUBMERGE_CACHE``.

``./model.gguf``, ``./folder#model.gguf``, or a folder or repository without safetensors weights that has exactly one.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hubmerge.errors import PlanError
from hubmerge.sizes import size_text
from zoo_index.cache_folder import cache_folder
from zoo_index.hub import ModelSource, open_source
from zoo_index.reference import ModelRef, PinnedRef
from zoo_index.source import LocalFolder

__all__ = ["ConvertedGguf", "open_model", "reopen_model"]

_ENDING = ".gguf"
_FACTS = ".gguf/facts.json"
_FORMAT = 1
"""Raised when a conversion gives other bytes: the cache is asked for again under another name."""


class ConvertedGguf(LocalFolder):
    """A GGUF file as the model folder it was converted to.  notes: what the conversion cost, for the plan."""

    def __init__(self, folder: Path, pinned: PinnedRef) -> None:
        super().__init__(folder, pinned)
        self.notes = _notes(str(pinned.reference), json.loads((folder / _FACTS).read_text()))


def open_model(reference: ModelRef, commit: str | None = None) -> ModelSource:
    """The files of `reference` (at `commit`): `zoo_index.hub.open_source`, but that a GGUF file is converted first.

    Raises as that does, and `PlanError` for several GGUF files, a missing package ``gguf``, an architecture that transformers
    cannot convert, and a full disk.
    """
    plain = ModelRef.of(reference.name, commit) if commit else reference.model
    single = _single_file(reference)
    if single is not None:
        return _converted(single, PinnedRef(reference.model))
    source = open_source(plain)
    names = source.files()
    found = [name for name in names if name.endswith(_ENDING)]
    if not found or any(name.endswith((".safetensors", ".safetensors.index.json")) for name in names):
        return source
    if len(found) > 1:
        folder = reference.name if reference.is_local else f"./{reference.name.rpartition('/')[2]}"
        fetch = "" if reference.is_local else f"`hf download {reference.name} {found[0]} --local-dir {folder}`, then "
        raise PlanError(
            f"{len(found)} GGUF files and no safetensors weights",
            where=str(reference),
            hint=f"{fetch}name one: {folder}#{found[0]}",
        )
    return _converted(source.path(found[0]), source.pinned)


def reopen_model(reference: ModelRef, commit: str | None) -> ModelSource:
    """What `open_model` gave for `reference` when it was planned; without asking the Hub again."""
    if commit is None:
        return open_model(reference)
    folder = _place(_commit_key(reference.name, commit))
    if (folder / _FACTS).is_file():
        return ConvertedGguf(folder, PinnedRef(reference.model, commit))
    return open_source(ModelRef.of(reference.name, commit))


def _single_file(reference: ModelRef) -> Path | None:
    """The GGUF file that a local reference names itself."""
    if not reference.is_local or not reference.name.endswith(_ENDING):
        return None
    path = reference.path
    if not path.exists() and "#" in path.name:
        folder, _, name = path.name.partition("#")
        path = path.parent / folder / name
    return path if path.is_file() else None


def _converted(file: Path, pinned: PinnedRef) -> ConvertedGguf:
    key = _commit_key(pinned.reference.name, pinned.commit) if pinned.commit else _file_key(file)
    folder = _place(key)
    if not (folder / _FACTS).is_file():
        _convert(file, folder, str(pinned.reference))
    return ConvertedGguf(folder, pinned)


def _place(key: tuple[object, ...]) -> Path:
    """The folder of a conversion."""
    digest = hashlib.sha256("\n".join(map(str, (_FORMAT, *key))).encode()).hexdigest()
    return cache_folder() / "gguf" / digest[:32]


def _commit_key(name: str, commit: str) -> tuple[object, ...]:
    """What tells a repository's only GGUF file from others."""
    return name, commit


def _file_key(file: Path) -> tuple[object, ...]:
    """What changes when a file does: its place, size and time of change."""
    state = file.stat()
    return file.resolve(), state.st_size, state.st_mtime_ns


def _convert(file: Path, folder: Path, where: str) -> None:
    """Convert into a folder beside, then rename: a conversion that was broken off leaves no model."""
    from importlib.util import find_spec

    with file.open("rb") as opened:
        if opened.read(4) != b"GGUF":
            raise PlanError(f"{file.name} is not a GGUF file", where=where, hint="fetch it again")
    if find_spec("gguf") is None:
        raise PlanError("GGUF files are read with the package gguf", where=where, hint="pip install gguf")
    from hubmerge.gguf_conversion import convert_gguf

    partial = folder.with_name(f"{folder.name}.{os.getpid()}.partial")
    try:
        partial.mkdir(parents=True, exist_ok=True)
        facts = convert_gguf(file, partial, where)
        (partial / _FACTS).parent.mkdir()
        (partial / _FACTS).write_text(json.dumps({**facts, "file": file.name}))
        if not folder.exists():
            partial.rename(folder)
    except OSError as error:
        raise PlanError(
            f"the GGUF file cannot be converted ({error.strerror or error})",
            where=str(folder.parent),
            hint="HUBMERGE_CACHE names another place for the converted model",
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _notes(reference: str, facts: Mapping[str, Any]) -> tuple[str, ...]:
    file = facts["file"]
    kinds = [f"{row['tensors']} in {row['type']} ({row['bits']:g} bits per weight)" for row in facts["types"]]
    rounded = any(row["bits"] < 16 for row in facts["types"])
    text = f"{reference}: {file} is converted to {size_text(facts['bytes'])} of safetensors; its tensors: {', '.join(kinds)}"
    notes = [text + ("; the merge starts from rounded weights" if rounded else "")]
    if facts["left"]:
        notes.append(f"{reference}: {', '.join(facts['left'])} of {file} have no place in the model of transformers")
    if not facts["tokenizer"]:
        notes.append(f"{reference}: transformers cannot read the tokenizer of {file}, none is carried")
    return tuple(notes)
