"""Names typed after `hubmerge zoo` -> what the catalog, a folder, the Hub cache or the Hub holds under them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Self

import typer

from hubmerge.cli.output import note

if TYPE_CHECKING:
    from zoo_index.catalog import Catalog
    from zoo_index.catalog_rows import Entry
    from zoo_index.lineage_graph import LineageGraph

__all__ = ["MAX_LIMIT", "CatalogOption", "ModelArgument", "Zoo"]

MAX_LIMIT = 1_000_000_000
"""More models than there are; the catalog's database takes no number beyond 64 bits."""

CatalogOption = Annotated[
    Path | None,
    typer.Option(
        "--catalog", metavar="FILE", help="The catalog's file; default: zoo.duckdb in hubmerge's cache folder."
    ),
]
ModelArgument = Annotated[
    str, typer.Argument(help="A name in the catalog (its last part is enough), a model folder, or a model on the Hub.")
]


class Zoo:
    """The catalog for questions, and the folders beside it: a model folder needs no catalog to be looked at."""

    def __init__(self, path: Path | None, *, needed: bool = False) -> None:
        from zoo_index.catalog import Catalog, default_catalog_path

        self._file = path or default_catalog_path()
        self._open = Catalog.open(self._file, read_only=True) if needed or self._file.exists() else None

    @property
    def catalog(self) -> Catalog:
        if self._open is None:
            raise AssertionError("opened without a catalog")
        return self._open

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._open is not None:
            self._open.close()

    def graph(self, *entries: Entry) -> LineageGraph:
        """The catalog's lineage with that of `entries`; without a catalog, theirs alone."""
        from zoo_index.lineage_graph import LineageGraph

        records = [entry.record for entry in entries]
        if self._open is not None:
            return self._open.lineage_graph(*records)
        kinds = {record.reference: record.kind for record in records}
        return LineageGraph(kinds, [edge for record in records for edge in record.base_models], {})

    def mentioned(self, name: str) -> Entry | str:
        """`entry`, or the name itself when only the files of other models mention it."""
        from zoo_index.errors import ModelNotFoundError
        from zoo_index.reference import is_local_name

        if self._open is not None and not is_local_name(name):
            try:
                self._open.get(name)
            except ModelNotFoundError:
                graph = self._open.lineage_graph()
                if graph.knows(graph.resolve(name)):
                    return name
        return self.entry(name)

    def entry(self, name: str) -> Entry:
        """The catalog's entry of `name`, else what the folder, the Hub cache or the Hub holds under that name."""
        from zoo_index.errors import CatalogError, ModelNotFoundError
        from zoo_index.reference import local_path

        if self._open is None:
            hint = "`hubmerge zoo sync FOLDER` makes one"
            unknown = ModelNotFoundError(
                f"no model {name!r} here, and no catalog yet", where=str(self._file), hint=hint
            )
            return _read(name, otherwise=unknown)
        try:
            entry = self._open.entry(name)
        except ModelNotFoundError as missing:
            return _read(name, otherwise=missing)
        here = local_path(name)
        model_here = (here / "config.json").is_file() or (here / "adapter_config.json").is_file()
        if model_here and here.resolve() != Path(entry.location):
            raise CatalogError(
                f"{name} is a folder here and another model in the catalog",
                where=entry.record.reference,
                hint=f"write ./{name} for the folder, or more of the other's path",
            )
        _note_if_stale(name, entry)
        return entry


def _read(name: str, *, otherwise: Exception) -> Entry:
    """The entry of a model that is read where it lies, on the Hub by headers only.

    Raises `otherwise` when a bare name is found nowhere, `ReferenceFormatError` for a base with an adapter on it.
    """
    from zoo_index.errors import CheckpointError, HubError, HubmergeError, ReferenceFormatError
    from zoo_index.hub import open_source
    from zoo_index.reference import ModelRef, is_local_name, local_path
    from zoo_index.sync import read_entry

    parts = name.split("+")
    a_folder = os.path.exists(local_path(name))  # noqa: PTH110 - pathlib's raises OSError for a name too long for a file
    if len(parts) == 2 and all(parts) and not a_folder:  # a folder may have a + in its name
        raise ReferenceFormatError(
            f"{name!r} is two models, a base and an adapter", hint=f"name one of them: {parts[0]} or {parts[1]}"
        )
    try:
        return read_entry(open_source(ModelRef.of(name), keep=False))
    except HubError as fault:
        # the Hub was asked: a bare word was hardly meant for it
        raise (fault if "/" in name else otherwise) from None
    except HubmergeError as fault:
        raise (fault if is_local_name(name) or isinstance(fault, CheckpointError) else otherwise) from None


def _note_if_stale(name: str, entry: Entry) -> None:
    from zoo_index.sync import freshness

    state = freshness(entry)
    again = "--cache" if entry.record.commit else str(Path(entry.location).parent)
    if state == "gone":
        note(f"{name} is gone from {entry.location} since the last sync; `hubmerge zoo sync {again}` forgets it")
    elif state == "changed":
        note(f"{name} has changed since the last sync; `hubmerge zoo sync {again}` reads it again")
