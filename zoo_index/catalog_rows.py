"""The catalog's rows: every statement that writes, and what brings records and edges back out of the file."""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from zoo_index.errors import CatalogError
from zoo_index.fingerprint import Sketch
from zoo_index.hub_listing import HubFacts
from zoo_index.lineage import Edge
from zoo_index.metadata import ModelRecord
from zoo_index.plain import Json
from zoo_index.reference import is_local_name

__all__ = ["CatalogRows", "Entry", "sketch_of"]


@dataclass(frozen=True)
class Entry:
    """What the catalog keeps of one model.

    location: the folder it was read from, or ``hub:org/name``.  state: a digest or commit that changes whenever
    something recorded changes.  documents: file name -> its content.  sketch: None when no weights were sampled.
    """

    record: ModelRecord
    location: str
    state: str
    documents: Mapping[str, dict[str, Json]]
    sketch: Sketch | None


class CatalogRows:
    """The rows of an open catalog; `Catalog` asks the questions.  One thread at a time."""

    def __init__(self, connection: Any, path: Path) -> None:
        self._connection = connection
        self.path = path

    def __len__(self) -> int:
        return int(self._rows("SELECT count(*) FROM models")[0][0])

    def upsert(self, entry: Entry) -> None:
        """Put an entry in, in place of the one of the same reference."""
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

    def refresh(self, reference: str, facts: HubFacts) -> ModelRecord:
        """Bring up to date what the Hub tells of an unchanged model beside its files; its record."""
        record = self._record(self._rows("SELECT record FROM models WHERE reference = ?", (reference,))[0][0])
        if record.hub == facts:
            return record
        renewed = record.model_copy(update={"hub": facts})
        self._rows("UPDATE models SET record = ? WHERE reference = ?", (renewed.model_dump_json(), reference))
        return renewed

    def bury(self, reference: str, state: str, refusal: str) -> None:
        """Keep the record of a model that can no longer be had, for the lineage of others; `refusal` says why."""
        record = self._record(self._rows("SELECT record FROM models WHERE reference = ?", (reference,))[0][0])
        buried = record.model_copy(update={"refusals": (refusal,)})
        self._rows(
            "UPDATE models SET record = ?, state = ? WHERE reference = ?", (buried.model_dump_json(), state, reference)
        )

    def rename(self, old: str, new: str) -> None:
        """Remember that the Hub leads from the name `old` to `new`, and forget the model recorded under `old`."""
        with self._transaction():
            self._rows("INSERT OR REPLACE INTO renames VALUES (?, ?)", (old.casefold(), new))
            self._delete(old, tables=("documents", "edges", "models"))

    def renames(self) -> dict[str, str]:
        """Old Hub names in small letters -> the names that the Hub leads to."""
        return dict(self._rows("SELECT old, new FROM renames ORDER BY old"))

    def tokenizers(self) -> dict[str, str | None]:
        """Ids of tokenizer files' bytes -> the signature of what they mean."""
        return dict(self._rows("SELECT content, signature FROM tokenizers"))

    def keep_tokenizer(self, content: str, signature: str | None) -> None:
        """Remember a tokenizer's signature by its bytes, so that they need not be read again."""
        self._rows("INSERT OR REPLACE INTO tokenizers VALUES (?, ?)", (content, signature))

    def states(self) -> dict[str, tuple[str, str]]:
        """Every reference with the location it was read from and its state then."""
        rows = self._rows("SELECT reference, location, state FROM models ORDER BY reference")
        return {reference: (location, state) for reference, location, state in rows}

    def kinds(self) -> dict[str, str]:
        """Every reference with its kind, model or adapter."""
        return dict(self._rows("SELECT reference, kind FROM models ORDER BY reference"))

    def edges(self) -> tuple[Edge, ...]:
        """All declared lineage, by child, most trusted first."""
        rows = self._rows(
            "SELECT child, parent, relation, source, confidence, parent_commit FROM edges ORDER BY child, rowid"
        )
        names = ("child", "parent", "relation", "source", "confidence", "commit")
        return tuple(Edge.model_validate(dict(zip(names, row, strict=True))) for row in rows)

    def _entry(self, reference: str) -> Entry:
        location, state, record, core, values = self._rows(
            "SELECT location, state, record, core, sketch FROM models WHERE reference = ?", (reference,)
        )[0]
        documents = self._rows("SELECT file, content FROM documents WHERE reference = ? ORDER BY file", (reference,))
        contents = {file: json.loads(content) for file, content in documents}
        return Entry(self._record(record), location, state, contents, sketch_of(core, values))

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


def sketch_of(core: str | None, values: bytes | None) -> Sketch | None:
    """The sketch in two columns of a row; None when they are empty."""
    return Sketch(core, tuple(array("f", values))) if core is not None and values is not None else None


def _without_revision(reference: str) -> str:
    return reference if is_local_name(reference) else reference.split("@", 1)[0]


def _search_text(record: ModelRecord) -> str:
    parents = (edge.parent for edge in record.base_models)
    parts = [record.reference, record.kind, record.model_type, record.pipeline_tag, record.library, record.licence]
    return " ".join(part for part in (*parts, *record.architectures, *record.tags, *parents) if part).lower()
