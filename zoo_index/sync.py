"""Folders of models, the local Hub cache and the Hub -> catalog.  Running it twice changes nothing the second time."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

from zoo_index.catalog import Catalog
from zoo_index.catalog_rows import Entry
from zoo_index.documents import Reading, read_files
from zoo_index.errors import HubmergeError
from zoo_index.fingerprint import Sketch, read_sketch
from zoo_index.hub import HubRepo, LocalFolder, ModelSource, cached_models, hub_cache_folder
from zoo_index.hub_reading import GONE, Tokenizers, is_hub_location, read_hub_entry
from zoo_index.hub_sync import HubQuery, check_query, sync_hub
from zoo_index.metadata import build_record, catalog_name
from zoo_index.reference import ModelRef, PinnedRef, local_path
from zoo_index.sync_report import Progress, SyncLog, SyncReport

__all__ = ["Freshness", "freshness", "model_folders", "read_entry", "sync"]

_RECORD_REVISION = 3
"""Raised when records of the same files come out otherwise than before, so that the next sync writes them anew."""

_MARKS = {"config.json", "adapter_config.json"}

Freshness = Literal["current", "changed", "gone"]


def sync(
    catalog: Catalog,
    folders: Iterable[str | Path],
    *,
    cache: bool = False,
    hub: HubQuery | None = None,
    progress: Progress | None = None,
) -> SyncReport:
    """Record every model under `folders`, with `cache` in the local Hub cache, and of `hub` on the Hub.

    What is gone from folders and cache is forgotten.  Raises what `check_query` does and, for a folder that neither exists
    nor held models of the catalog, `ModelNotFoundError`, before anything is changed; later what `sync_hub` raises.  A
    damaged model is reported and never stops the sync.
    """
    if hub is not None:
        check_query(hub)
    log = SyncLog(progress) if progress else SyncLog()
    _sync_disk(catalog, [local_path(folder).resolve() for folder in folders], log, cache=cache)
    if hub is not None:
        sync_hub(catalog, hub, log)
    return log.report()


def _sync_disk(catalog: Catalog, roots: list[Path], log: SyncLog, *, cache: bool) -> None:
    before = catalog.states()
    for root in roots:
        known = any(_is_under(location, root) for location, _ in before.values())
        if not root.is_dir() and (root.exists() or not known):
            LocalFolder(root, PinnedRef(ModelRef.of(str(root))))  # raises, with the nearest name
    sources = [_folder(path) for root in roots for path in model_folders(root)]
    if cache:
        sources += cached_models()
        roots = [*roots, hub_cache_folder().resolve()]
    seen: set[str] = set()
    for source in sources:
        name = catalog_name(source)
        if name not in seen:
            seen.add(name)
            _record(catalog, source, before.get(name, ("", "")), log)
    for name, (location, _) in before.items():
        if name not in seen and any(_is_under(location, root) for root in roots):
            catalog.remove(name)
            log.add(name, "removed")


def model_folders(root: Path) -> Iterator[Path]:
    """Every folder at or under `root` with a config.json or adapter_config.json, in order of paths.

    Hidden folders and unfinished merges (``*.partial``) below `root` are passed over, links to folders not followed.
    """
    for folder, inner, files in os.walk(root):
        inner[:] = sorted(name for name in inner if not name.startswith(".") and not name.endswith(".partial"))
        if not _MARKS.isdisjoint(files):
            yield Path(folder)


def read_entry(source: ModelSource) -> Entry:
    """Everything the catalog keeps of one model, read from its files.

    Raises `CheckpointError` when a folder is no model, and `HubError` when the Hub does not answer.
    """
    if isinstance(source, HubRepo):
        return read_hub_entry(source, Tokenizers({}))
    reading = read_files(source)
    sketch = _sketch(source, reading)
    return _entry(source, reading, sketch, _state(source, reading, sketch))


def freshness(entry: Entry) -> Freshness:
    """Whether a catalog's entry still says what its files say: headers and small files are read again.

    A model on the Hub counts as current: a question asks nobody.
    """
    if is_hub_location(entry.location):
        return "current"
    try:
        reference = ModelRef.of(entry.record.reference)
        source = LocalFolder(Path(entry.location), PinnedRef(reference, entry.record.commit))
        reading = read_files(source)
    except HubmergeError:
        return "gone"
    return "current" if _state(source, reading, _sketch(source, reading)) == entry.state else "changed"


def _record(catalog: Catalog, source: ModelSource, before: tuple[str, str], log: SyncLog) -> None:
    name, (location, known) = catalog_name(source), before
    if is_hub_location(location) and known != GONE:
        # the Hub says more of a model than a snapshot of it, which can be old or lack files
        log.add(name, "unchanged", catalog.get(name).refusals)
        return
    try:
        reading = read_files(source)
        sketch = _sketch(source, reading)
        state = _state(source, reading, sketch)
        entry = None if state == known else _entry(source, reading, sketch, state)
    except HubmergeError as fault:
        log.add(name, "refused", [str(fault)])
        return
    if entry is not None:
        catalog.upsert(entry)
    log.add(name, "unchanged" if entry is None else "updated" if known else "added", reading.refusals)


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
        _RECORD_REVISION,
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
