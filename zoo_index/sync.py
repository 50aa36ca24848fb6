"""Folders of models and the local Hub cache -> catalog.  Running it twice changes nothing the second time."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from zoo_index.catalog import Catalog, Entry
from zoo_index.documents import Reading, read_files
from zoo_index.errors import CatalogError, HubmergeError
from zoo_index.fingerprint import Sketch, read_sketch
from zoo_index.hub import LocalFolder, ModelSource, cached_models, hub_cache_folder
from zoo_index.metadata import build_record, catalog_name
from zoo_index.reference import ModelRef, PinnedRef

__all__ = ["Freshness", "Refused", "SyncReport", "freshness", "model_folders", "read_entry", "sync"]

RECORD_REVISION = 1
"""Raised when records of the same files come out otherwise than before, so that the next sync writes them anew."""

_MARKS = {"config.json", "adapter_config.json"}

Freshness = Literal["current", "changed", "gone"]


@dataclass(frozen=True)
class Refused:
    """A model that cannot be merged, and why."""

    reference: str
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class SyncReport:
    """What a sync did, by reference.

    refused: models that cannot be merged; unless they could not be read at all, they are among the others too.
    """

    added: tuple[str, ...] = ()
    updated: tuple[str, ...] = ()
    unchanged: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    refused: tuple[Refused, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The report as plain JSON values."""
        return asdict(self)


def sync(catalog: Catalog, folders: Iterable[str | Path], *, cache: bool = False) -> SyncReport:
    """Record every model under `folders` and, with `cache`, in the local Hub cache; forget those that are gone there.

    Raises `ModelNotFoundError` for a folder that neither exists nor held models of the catalog, before anything is
    changed.  A damaged model is reported and never stops the sync.
    """
    before = catalog.states()
    roots = [Path(folder).expanduser().resolve() for folder in folders]
    for root in roots:
        known = any(_is_under(location, root) for location, _ in before.values())
        if not root.is_dir() and (root.exists() or not known):
            LocalFolder(root, PinnedRef(ModelRef.of(str(root))))  # raises, with the nearest name
    sources = [_folder(path) for root in roots for path in model_folders(root)]
    if cache:
        sources += cached_models()
        roots.append(hub_cache_folder().resolve())
    outcomes: dict[str, list[str]] = {"added": [], "updated": [], "unchanged": []}
    refused: list[Refused] = []
    seen: set[str] = set()
    for source in sources:
        name = catalog_name(source)
        if name in seen:
            continue
        seen.add(name)
        try:
            outcome, reasons = _record(catalog, source, before.get(name, ("", ""))[1])
        except CatalogError:
            raise  # not the model's fault, and no better with the next one
        except HubmergeError as fault:
            refused.append(Refused(name, (str(fault),)))
            continue
        outcomes[outcome].append(name)
        if reasons:
            refused.append(Refused(name, reasons))
    removed = [
        name
        for name, (location, _) in before.items()
        if name not in seen and any(_is_under(location, root) for root in roots)
    ]
    for name in removed:
        catalog.remove(name)
    return SyncReport(
        added=tuple(outcomes["added"]),
        updated=tuple(outcomes["updated"]),
        unchanged=tuple(outcomes["unchanged"]),
        removed=tuple(removed),
        refused=tuple(refused),
    )


def model_folders(root: Path) -> Iterator[Path]:
    """Every folder at or under `root` with a config.json or adapter_config.json, in order of paths.

    Hidden folders and unfinished merges (``*.partial``) below `root` are passed over, links to folders not followed.
    """
    for folder, inner, files in os.walk(root):
        inner[:] = sorted(name for name in inner if not name.startswith(".") and not name.endswith(".partial"))
        if not _MARKS.isdisjoint(files):
            yield Path(folder)


def read_entry(source: ModelSource) -> Entry:
    """Everything the catalog keeps of one model, read from its files; `CheckpointError` when it is no model."""
    reading = read_files(source)
    sketch = _sketch(source, reading)
    return _entry(source, reading, sketch, _state(source, reading, sketch))


def freshness(entry: Entry) -> Freshness:
    """Whether a catalog's entry still says what its files say: headers and small files are read again."""
    try:
        reference = ModelRef.of(entry.record.reference)
        source = LocalFolder(Path(entry.location), PinnedRef(reference, entry.record.commit))
        reading = read_files(source)
    except HubmergeError:
        return "gone"
    return "current" if _state(source, reading, _sketch(source, reading)) == entry.state else "changed"


def _record(catalog: Catalog, source: ModelSource, known: str) -> tuple[str, tuple[str, ...]]:
    reading = read_files(source)
    sketch = _sketch(source, reading)
    state = _state(source, reading, sketch)
    if state == known:
        return "unchanged", reading.refusals
    catalog.upsert(_entry(source, reading, sketch, state))
    return ("updated" if known else "added"), reading.refusals


def _entry(source: ModelSource, reading: Reading, sketch: Sketch | None, state: str) -> Entry:
    mark = next(name for name in sorted(source.files()) if name in _MARKS)
    return Entry(
        build_record(source, reading), str(source.path(mark).parent.resolve()), state, reading.documents, sketch
    )


def _sketch(source: ModelSource, reading: Reading) -> Sketch | None:
    if reading.table is None:
        return None
    try:
        return read_sketch(source, reading.table)
    except HubmergeError:
        return None


def _state(source: ModelSource, reading: Reading, sketch: Sketch | None) -> str:
    """Digest of all that was read: of training in place, only the sampled weights tell."""
    headers = dict(reading.table.headers) if reading.table is not None else {}
    values = sketch.values if sketch else ()
    seen = [
        RECORD_REVISION,
        dict(source.files()),
        headers,
        dict(reading.documents),
        *reading.refusals,
        *reading.warnings,
        values,
    ]
    return hashlib.sha256(json.dumps(seen, sort_keys=True).encode()).hexdigest()


def _folder(path: Path) -> LocalFolder:
    return LocalFolder(path, PinnedRef(ModelRef.of(str(path))))


def _is_under(location: str, root: Path) -> bool:
    return Path(location).is_relative_to(root)
