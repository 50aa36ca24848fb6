"""The catalog: every known model in one DuckDB file.  Rows in, frozen records out; no SQL anywhere else."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from zoo_index.answers import MATCH_COLUMNS, RECORD_COLUMNS, Match, match_models, ranking
from zoo_index.cache_folder import cache_folder
from zoo_index.catalog_rows import CatalogRows, Entry, sketch_of
from zoo_index.compat import Level
from zoo_index.errors import CatalogError, ModelNotFoundError
from zoo_index.lineage_answers import CommonAncestor, Lineage
from zoo_index.lineage_graph import LineageGraph
from zoo_index.metadata import ModelRecord
from zoo_index.migrations import connect
from zoo_index.reference import is_local_name, local_path
from zoo_index.table import Table

if TYPE_CHECKING:
    from zoo_index.sync_report import Progress, SyncReport

__all__ = ["Catalog", "Entry", "default_catalog_path"]


def default_catalog_path() -> Path:
    """``zoo.duckdb`` under ``HUBMERGE_CACHE``, else under ``hubmerge`` in the user's cache folder."""
    return cache_folder() / "zoo.duckdb"


class Catalog(CatalogRows):
    """An open catalog; a context manager.  Open it with `Catalog.open`."""

    @classmethod
    def open(cls, path: str | Path | None = None, *, read_only: bool = False) -> Self:
        """The catalog in file `path` (default: `default_catalog_path`), made when it does not exist.

        read_only: for questions; several processes may hold it at once, and a missing file is an error.
        Raises `CatalogError` when it cannot be opened (`zoo_index.migrations.connect`).
        """
        file = local_path(path) if path is not None else default_catalog_path()
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

    def get(self, name: str) -> ModelRecord:
        """The record that `name` means: a reference, a folder's path, or any last part of one that only one has.

        Raises `ModelNotFoundError` when there is none, `CatalogError` when there are several, and lists them.
        """
        return self.entry(name).record

    def entry(self, name: str) -> Entry:
        """`get` with all that the catalog keeps beside the record."""
        return self._entry(self._resolve(name))

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
        graph = self.lineage_graph(mine.record)
        matches = [
            match_models(mine.record, mine.sketch, self._record(record), sketch_of(core, values), graph)
            for record, core, values in rows
        ]
        found = sorted((match for match in matches if match.level is not Level.incompatible), key=ranking)
        return Table(tuple(found), MATCH_COLUMNS, len(found))

    def why(self, left: str | Entry, right: str | Entry) -> Match:
        """How the two can be combined, and the reasons; the match's record is the right one."""
        a = left if isinstance(left, Entry) else self.entry(left)
        b = right if isinstance(right, Entry) else self.entry(right)
        return match_models(a.record, a.sketch, b.record, b.sketch, self.lineage_graph(a.record, b.record))

    def lineage(self, name: str | Entry) -> Lineage:
        """Ancestors and descendants of a model: of the catalog, or that models of the catalog descend from.

        Raises `ModelNotFoundError` when it is neither, and `CatalogError` when several are meant.
        """
        graph = self.lineage_graph(*([name.record] if isinstance(name, Entry) else []))
        return graph.lineage(self._in_graph(name, graph))

    def common_ancestor(self, names: Sequence[str | Entry]) -> CommonAncestor | None:
        """The nearest model that all those named (or given) are declared to descend from, to be their `base_model`.

        None when there is none; see `LineageGraph.common_ancestor` for what is nearest.  Raises as `lineage` does.
        """
        graph = self.lineage_graph(*(name.record for name in names if isinstance(name, Entry)))
        return graph.common_ancestor([self._in_graph(name, graph) for name in names])

    def lineage_graph(self, *others: ModelRecord) -> LineageGraph:
        """The lineage of every model of the catalog, and of `others`, which count with what their own record says."""
        kinds = {**self.kinds(), **{record.reference: record.kind for record in others}}
        own = {record.reference for record in others}
        edges = [edge for edge in self.edges() if edge.child not in own]
        return LineageGraph(kinds, [*edges, *(edge for o in others for edge in o.base_models)], self.renames())

    def _in_graph(self, name: str | Entry, graph: LineageGraph) -> str:
        if isinstance(name, Entry):
            return graph.resolve(name.record.reference)
        try:
            return self._resolve(name)
        except ModelNotFoundError:
            known = graph.resolve(name)
            if not graph.knows(known):
                raise
            return known

    def sync(
        self,
        folders: str | Path | Iterable[str | Path] = (),
        *,
        cache: bool = False,
        repos: str | Iterable[str] = (),
        author: str | None = None,
        search: str | None = None,
        limit: int | None = None,
        progress: Progress | None = None,
    ) -> SyncReport:
        """Bring the catalog up to date with folders of models, the local Hub cache (`cache`) and the Hub.

        repos: names on the Hub.  author, search: the Hub's models of this author, and with these words in the name; limit:
        the most downloaded ones of them.  progress: called for each model.  Nothing of a model is read but small files and
        headers.  Raises as `zoo_index.sync.sync` does.
        """
        from zoo_index.hub_sync import HubQuery
        from zoo_index.sync import sync

        names = (repos,) if isinstance(repos, str) else tuple(repos)
        query = HubQuery(names, author, search, limit)
        roots = [folders] if isinstance(folders, str | Path) else folders
        return sync(self, roots, cache=cache, hub=query if names or query.lists else None, progress=progress)

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
        path = str(local_path(text).resolve()) if is_local_name(text) else text
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


def _listed(references: Sequence[str]) -> str:
    shown = ", ".join(references[:5])
    return shown if len(references) <= 5 else f"{shown} and {len(references) - 5} more"
