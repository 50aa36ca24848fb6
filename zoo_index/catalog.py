"""The catalog: every known model in one DuckDB file.  Rows in, frozen records out; no SQL anywhere else."""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from pydantic import ValidationError

from zoo_index.answers import MATCH_COLUMNS, RECORD_COLUMNS, Match, match_models, ranking
from zoo_index.compat import Level
from zoo_index.errors import CatalogError, ModelNotFoundError
from zoo_index.fingerprint import Sketch
from zoo_index.metadata import ModelRecord
from zoo_index.migrations import connect
from zoo_index.plain import Json
from zoo_index.reference import is_local_name
from zoo_index.table import Table

if TYPE_CHECKING:
    from zoo_index.sync import SyncReport

__all__ = ["Catalog", "Entry", "default_catalog_path"]


@dataclass(frozen=True)
class Entry:
    """What the catalog keeps of one model.

    location: the folder it was read from.  state: a digest that changes whenever something recorded changes.
    documents: file name -> its content.  sketch: None when no weights could be sampled.
    """

    record: ModelRecord
    location: str
    state: str
    documents: Mapping[str, dict[str, Json]]
    sketch: Sketch | None


def default_catalog_path() -> Path:
    """``zoo.duckdb`` under ``HUBMERGE_CACHE``, else under ``hubmerge`` in the user's cache folder."""
    cache = os.environ.get("HUBMERGE_CACHE")
    user_cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    return (Path(cache).expanduser() if cache else user_cache / "hubmerge") / "zoo.duckdb"


class Catalog:
    """An open catalog; a context manager.  Open it with `Catalog.open`."""

    def __init__(self, connection: Any, path: Path) -> None:
        self._connection = connection
        self.path = path

    @classmethod
    def open(cls, path: str | Path | None = None, *, read_only: bool = False) -> Self:
        """The catalog in file `path` (default: `default_catalog_path`), made when it does not exist.

        read_only: for questions; several processes may hold it at once, and a missing file is an error.
        Raises `CatalogError` when it cannot be opened (`zoo_index.migrations.connect`).
        """
        file = Path(path).expanduser() if path is not None else default_catalog_path()
        return cls(connect(file, read_only=read_only), file)

    def close(self) -> None:
        """Release the file."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __len__(self) -> int:
        return int(self._rows("SELECT count(*) FROM models")[0][0])

    def upsert(self, entry: Entry) -> None:
        """Put an entry in, in place of the one of the same reference."""
        import json

        record, sketch = entry.record, entry.sketch
        row = (
            record.reference, _without_revision(record.reference), entry.location, entry.state, record.kind,
            record.model_type, record.licence, record.core_signature, _search_text(record), record.model_dump_json(),
            sketch.core if sketch else None, array("f", sketch.values).tobytes() if sketch else None,
        )  # fmt: skip
        documents = [(record.reference, file, json.dumps(content)) for file, content in entry.documents.items()]
        edges = [(e.child, e.parent, e.relation, e.source, e.confidence, e.commit) for e in record.base_models]
        with self._transaction():
            self._delete(record.reference, tables=("documents", "edges"))
            self._rows(f"INSERT OR REPLACE INTO models VALUES ({', '.join('?' * len(row))})", row)  # noqa: S608 - marks only
            for document in documents:
                self._rows("INSERT INTO documents VALUES (?, ?, ?)", document)
            for edge in edges:
                self._rows("INSERT INTO edges VALUES (?, ?, ?, ?, ?, ?)", edge)

    def remove(self, reference: str) -> None:
        """Forget the model of exactly this reference."""
        with self._transaction():
            self._delete(reference, tables=("documents", "edges", "models"))

    def states(self) -> dict[str, tuple[str, str]]:
        """Every reference with the location it was read from and its state then."""
        rows = self._rows("SELECT reference, location, state FROM models ORDER BY reference")
        return {reference: (location, state) for reference, location, state in rows}

    def get(self, name: str) -> ModelRecord:
        """The record that `name` means: a reference, a folder's path, or any last part of one that only one has.

        Raises `ModelNotFoundError` when there is none, `CatalogError` when there are several, and lists them.
        """
        return self.entry(name).record

    def entry(self, name: str) -> Entry:
        """`get` with all that the catalog keeps beside the record."""
        import json

        reference = self._resolve(name)
        location, state, record, core, values = self._rows(
            "SELECT location, state, record, core, sketch FROM models WHERE reference = ?", (reference,)
        )[0]
        documents = self._rows("SELECT file, content FROM documents WHERE reference = ? ORDER BY file", (reference,))
        contents = {file: json.loads(content) for file, content in documents}
        return Entry(self._record(record), location, state, contents, _sketch(core, values))

    def all(self) -> Table[ModelRecord]:
        """Every record, by reference."""
        return self.find(limit=None)

    def find(
        self,
        text: str = "",
        *,
        model_type: str | None = None,
        kind: str | None = None,
        licence: str | None = None,
        limit: int | None = 50,
    ) -> Table[ModelRecord]:
        """Records by reference, at most `limit` (None: all).

        text: words that must all occur in the reference, model type, architecture, task, tags or parents' names, in
        any case.  The others must be equal, in any case.
        """
        wheres, values = ["true"], list[str]()
        for word in text.lower().split():
            wheres.append("contains(search_text, ?)")
            values.append(word)
        for column, value in (("model_type", model_type), ("kind", kind), ("licence", licence)):
            if value is not None:
                wheres.append(f"lower({column}) = ?")
                values.append(value.lower())
        query = f"FROM models WHERE {' AND '.join(wheres)}"
        total = int(self._rows(f"SELECT count(*) {query}", values)[0][0])
        page = "" if limit is None else f" LIMIT {int(limit)}"
        rows = self._rows(f"SELECT record {query} ORDER BY reference{page}", values)
        return Table(tuple(self._record(record) for (record,) in rows), RECORD_COLUMNS, total)

    def compatible(self, name: str | Entry) -> Table[Match]:
        """Every model and adapter that can be combined with the one named (or given), best first.

        Order: level, then fewer warnings, then likeness of the weights.
        """
        mine = name if isinstance(name, Entry) else self.entry(name)
        rows = self._rows(
            "SELECT record, core, sketch FROM models WHERE reference <> ? AND"
            " (kind = 'adapter' OR ? = 'adapter' OR model_type = ? OR core_signature = ?)",
            (mine.record.reference, mine.record.kind, mine.record.model_type, mine.record.core_signature),
        )
        matches = [
            match_models(mine.record, mine.sketch, self._record(record), _sketch(core, values))
            for record, core, values in rows
        ]
        found = sorted((match for match in matches if match.level is not Level.incompatible), key=ranking)
        return Table(tuple(found), MATCH_COLUMNS, len(found))

    def why(self, left: str | Entry, right: str | Entry) -> Match:
        """How the two can be combined, and the reasons; the match's record is the right one."""
        a = left if isinstance(left, Entry) else self.entry(left)
        b = right if isinstance(right, Entry) else self.entry(right)
        return match_models(a.record, a.sketch, b.record, b.sketch)

    def sync(self, folders: str | Path | Iterable[str | Path] = (), *, cache: bool = False) -> SyncReport:
        """Bring the catalog up to date with folders of models and, with `cache`, the local Hub cache."""
        from zoo_index.sync import sync

        return sync(self, [folders] if isinstance(folders, str | Path) else folders, cache=cache)

    def label(self, reference: str) -> str:
        """The shortest name that means this reference here: its last parts for a folder, itself otherwise."""
        if not is_local_name(reference):
            return reference
        parts = reference.strip("/").split("/")
        for size in range(1, len(parts)):
            suffix = "/".join(parts[-size:])
            if self._candidates(suffix) in ([], [reference]):
                return suffix
        return reference

    def _resolve(self, name: str) -> str:
        text = name.strip()
        path = str(Path(text).expanduser().resolve()) if is_local_name(text) else text
        exact = self._rows("SELECT reference FROM models WHERE reference = ?", (path,))
        if exact:
            return str(exact[0][0])
        rooted = text.startswith(("/", "./", "../", "~")) or text in {"", ".", ".."}
        found = [] if rooted else self._candidates(text.strip("/"))
        if len(found) == 1:
            return found[0]
        if found:
            raise CatalogError(
                f"{name!r} can mean {_listed(found)}", where=str(self.path), hint="write more of its path"
            )
        raise ModelNotFoundError(f"{name!r} is not in the catalog", where=str(self.path), hint=self._suggestion(path))

    def _candidates(self, suffix: str) -> list[str]:
        rows = self._rows(
            "SELECT reference FROM models WHERE name = $1 OR ends_with(name, '/' || $1)"
            " OR ends_with(reference, '/' || $1) ORDER BY reference",
            (suffix,),
        )
        return [reference for (reference,) in rows]

    def _suggestion(self, name: str) -> str:
        from difflib import get_close_matches

        if not len(self):
            return "the catalog is empty: `hubmerge zoo sync FOLDER` fills it"
        last = {reference.rsplit("/", 1)[-1]: reference for reference in self.states()}
        close = get_close_matches(name.rsplit("/", 1)[-1], last, n=1)
        meant = f"did you mean {self.label(last[close[0]])}? " if close else ""
        return f"{meant}`hubmerge zoo find` lists it, `hubmerge zoo sync FOLDER` adds a folder"

    def _record(self, text: str) -> ModelRecord:
        try:
            return ModelRecord.model_validate_json(text)
        except ValidationError as error:
            raise CatalogError(
                "a record was written by another version", where=str(self.path), hint="delete the file and sync again"
            ) from error

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._rows("BEGIN")
        try:
            yield
            self._rows("COMMIT")
        except BaseException:
            with suppress(CatalogError):  # a failed commit has ended the transaction already
                self._rows("ROLLBACK")
            raise

    def _delete(self, reference: str, *, tables: Sequence[str]) -> None:
        for table in tables:
            column = "child" if table == "edges" else "reference"
            self._rows(f"DELETE FROM {table} WHERE {column} = ?", (reference,))  # noqa: S608 - names are ours

    def _rows(self, sql: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        import duckdb

        try:
            rows: list[tuple[Any, ...]] = self._connection.execute(sql, values).fetchall()
        except duckdb.Error as error:
            raise CatalogError(
                f"the catalog failed ({error})", where=str(self.path), hint="delete it and sync again"
            ) from error
        return rows


def _sketch(core: str | None, values: bytes | None) -> Sketch | None:
    return Sketch(core, tuple(array("f", values))) if core is not None and values is not None else None


def _without_revision(reference: str) -> str:
    return reference if is_local_name(reference) else reference.split("@", 1)[0]


def _search_text(record: ModelRecord) -> str:
    parents = (edge.parent for edge in record.base_models)
    parts = [record.reference, record.kind, record.model_type, record.pipeline_tag, record.library, record.licence]
    return " ".join(part for part in (*parts, *record.architectures, *record.tags, *parents) if part).lower()


def _listed(references: Sequence[str]) -> str:
    shown = ", ".join(references[:5])
    return shown if len(references) <= 5 else f"{shown} and {len(references) - 5} more"
