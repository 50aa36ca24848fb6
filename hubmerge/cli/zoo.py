"""`hubmerge zoo`: which models are here, what they are, and what can be merged with what."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self

import typer

from hubmerge.cli import zoo_view
from hubmerge.cli.output import Format, FormatOption, JsonOption, emit, note

if TYPE_CHECKING:
    from zoo_index.catalog import Catalog, Entry

__all__ = ["app"]

app = typer.Typer(
    help="Find models, see what they are, and which can be merged with which.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

CatalogOption = Annotated[
    Path | None,
    typer.Option(
        "--catalog", metavar="FILE", help="The catalog's file; default: zoo.duckdb in hubmerge's cache folder."
    ),
]
ModelArgument = Annotated[
    str, typer.Argument(help="A name in the catalog (its last part is enough) or a model folder.")
]


@app.command()
def sync(
    folders: Annotated[
        list[Path] | None, typer.Argument(metavar="FOLDER...", help="Folders to search for models, at any depth.")
    ] = None,
    cache: Annotated[bool, typer.Option("--cache", help="Also the models in the local Hub cache.")] = False,
    catalog: CatalogOption = None,
    format: FormatOption = Format.table,  # noqa: A002 - the option's own name
    json: JsonOption = False,
) -> None:
    """Record the models under FOLDERS; forget those that are gone from there."""
    from zoo_index.catalog import Catalog

    if not folders and not cache:
        raise typer.BadParameter("name at least one folder, or --cache")
    with Catalog.open(catalog) as zoo:
        report = zoo.sync(folders or [], cache=cache)
        recorded = report.added + report.updated + report.unchanged
        emit(
            format, json, data=report.to_json, table=lambda: zoo_view.print_report(zoo, report), quiet=lambda: recorded
        )
        if not recorded and not report.removed and not report.refused:
            note("no models there; a model is a folder with config.json or adapter_config.json")
        note(f"catalog: {zoo.path}")


@app.command()
def find(
    text: Annotated[
        str, typer.Argument(help="Words that must occur in name, architecture, task, tags or parents.")
    ] = "",
    model_type: Annotated[str | None, typer.Option("--type", help="Only this model type, such as llama.")] = None,
    kind: Annotated[str | None, typer.Option("--kind", help="Only this kind: model or adapter.")] = None,
    licence: Annotated[str | None, typer.Option("--licence", "--license", help="Only this licence.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most so many.")] = 50,
    catalog: CatalogOption = None,
    format: FormatOption = Format.table,  # noqa: A002 - the option's own name
    json: JsonOption = False,
) -> None:
    """List the models in the catalog."""
    from zoo_index.catalog import Catalog

    if kind not in (None, "model", "adapter"):
        raise typer.BadParameter(f"{kind!r} is neither model nor adapter", param_hint="--kind")
    with Catalog.open(catalog, read_only=True) as zoo:
        found = zoo.find(text, model_type=model_type, kind=kind, licence=licence, limit=limit)
        emit(
            format,
            json,
            data=lambda: [record.to_json() for record in found],
            table=lambda: zoo_view.print_records(zoo, found),
            quiet=lambda: (record.reference for record in found),
        )
        if found.total > len(found):
            note(f"{len(found)} of {found.total} shown; --limit {found.total} shows all")
        elif not found:
            note("nothing matches" if len(zoo) else "the catalog is empty; `hubmerge zoo sync FOLDER` fills it")


@app.command()
def show(
    model: ModelArgument,
    raw: Annotated[
        bool, typer.Option("--raw", help="Print config, card metadata and so on as they were read.")
    ] = False,
    catalog: CatalogOption = None,
    format: FormatOption = Format.table,  # noqa: A002 - the option's own name
    json: JsonOption = False,
) -> None:
    """Everything known about one model."""
    with _Zoo(catalog) as zoo:
        entry = zoo.entry(model)
        record = entry.record
        if raw:
            json = True

        def data() -> Any:
            return dict(entry.documents) if raw else record.to_json()

        emit(format, json, data=data, table=lambda: zoo_view.print_record(record), quiet=lambda: [record.reference])


@app.command()
def compatible(
    model: ModelArgument,
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most so many.")] = 50,
    catalog: CatalogOption = None,
    format: FormatOption = Format.table,  # noqa: A002 - the option's own name
    json: JsonOption = False,
) -> None:
    """Which models in the catalog can be combined with MODEL, best first."""
    with _Zoo(catalog, needed=True) as zoo:
        entry = zoo.entry(model)
        found = zoo.catalog.compatible(entry)
        shown = found[:limit]
        emit(
            format,
            json,
            data=lambda: [match.to_json() for match in shown],
            table=lambda: zoo_view.print_matches(zoo.catalog, shown),
            quiet=lambda: (match.record.reference for match in shown),
        )
        for refusal in entry.record.refusals:
            note(f"{model} cannot be merged: {refusal}")
        if len(found) > len(shown):
            note(f"{len(shown)} of {len(found)} shown; --limit {len(found)} shows all")
        elif not found:
            note(f"nothing in the catalog can be combined with {model}; `hubmerge zoo why {model} OTHER` says why")


@app.command()
def why(
    a: ModelArgument,
    b: ModelArgument,
    catalog: CatalogOption = None,
    format: FormatOption = Format.table,  # noqa: A002 - the option's own name
    json: JsonOption = False,
) -> None:
    """Whether A and B can be merged, and why or why not."""
    from zoo_index.answers import match_models

    with _Zoo(catalog) as zoo:
        left, right = zoo.entry(a), zoo.entry(b)
        match = match_models(left.record, left.sketch, right.record, right.sketch)
        emit(
            format,
            json,
            data=lambda: {"left": left.record.reference, "right": right.record.reference} | match.to_json(),
            table=lambda: zoo_view.print_why(left.record, match),
            quiet=lambda: [match.level.value],
        )


class _Zoo:
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

    def entry(self, name: str) -> Entry:
        """The catalog's entry of `name`, else what the folder or the Hub cache holds under that name."""
        from zoo_index.errors import CatalogError, ModelNotFoundError

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
        here = Path(name).expanduser()
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
    """The entry of a model that is read where it lies; `otherwise` is raised when a bare name is found nowhere."""
    from zoo_index.errors import HubmergeError
    from zoo_index.hub import open_source
    from zoo_index.reference import ModelRef, is_local_name
    from zoo_index.sync import read_entry

    try:
        source = open_source(ModelRef.of(name))  # one model: base+adapter is two
    except HubmergeError as fault:
        raise (fault if is_local_name(name) else otherwise) from None
    return read_entry(source)


def _note_if_stale(name: str, entry: Entry) -> None:
    from zoo_index.sync import freshness

    state = freshness(entry)
    again = "--cache" if entry.record.commit else str(Path(entry.location).parent)
    if state == "gone":
        note(f"{name} is gone from {entry.location} since the last sync; `hubmerge zoo sync {again}` forgets it")
    elif state == "changed":
        note(f"{name} has changed since the last sync; `hubmerge zoo sync {again}` reads it again")
