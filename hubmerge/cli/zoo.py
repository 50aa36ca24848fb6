"""`hubmerge zoo`: which models are here, what they are, and what can be merged with what."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from hubmerge.cli import zoo_view
from hubmerge.cli.output import Format, FormatOption, JsonOption, emit, note
from hubmerge.cli.zoo_lineage import lineage
from hubmerge.cli.zoo_names import MAX_LIMIT, CatalogOption, ModelArgument, Zoo

__all__ = ["app"]

app = typer.Typer(
    help="Find models, see what they are, and which can be merged with which.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command()
def sync(
    folders: Annotated[
        list[Path] | None, typer.Argument(metavar="FOLDER...", help="Folders to search for models, at any depth.")
    ] = None,
    cache: Annotated[bool, typer.Option("--cache", help="Also the models in the local Hub cache.")] = False,
    repos: Annotated[
        list[str] | None, typer.Option("--repo", metavar="ID", help="Also this model on the Hub; can be repeated.")
    ] = None,
    author: Annotated[str | None, typer.Option("--author", help="Also the Hub's models of this author.")] = None,
    search: Annotated[
        str | None, typer.Option("--search", help="Also the Hub's models (of the author) with these words in the name.")
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option("--limit", min=1, max=MAX_LIMIT, help="Of author and search only the so many most downloaded."),
    ] = None,
    catalog: CatalogOption = None,
    format: FormatOption = Format.table,  # noqa: A002 - the option's own name
    json: JsonOption = False,
) -> None:
    """Record models of folders, of the Hub cache and of the Hub; forget those that are gone from this disk.

    On the Hub small files and headers are read, never weights, and nothing of a model that has not changed.
    """
    from zoo_index.catalog import Catalog

    if not (folders or cache or repos or author or search):
        raise typer.BadParameter("name at least one folder, --cache, --repo, --author or --search")
    if limit is not None and not (author or search):
        raise typer.BadParameter("it goes with --author or --search", param_hint="--limit")
    with Catalog.open(catalog) as zoo, zoo_view.counted("models") as progress:
        report = zoo.sync(
            folders or [],
            cache=cache,
            repos=repos or [],
            author=author,
            search=search,
            limit=limit,
            progress=lambda *_: progress(),
        )
        recorded = report.added + report.updated + report.unchanged
        emit(
            format, json, data=report.to_json, table=lambda: zoo_view.print_report(zoo, report), quiet=lambda: recorded
        )
        if not (recorded or report.removed or report.refused or report.gone):
            on_disk = "; a model is a folder with config.json or adapter_config.json" if folders or cache else ""
            note(f"no models there{on_disk}")
        note(f"catalog: {zoo.path}")


@app.command()
def find(
    text: Annotated[
        str, typer.Argument(help="Words that must occur in name, architecture, task, tags or parents.")
    ] = "",
    model_type: Annotated[str | None, typer.Option("--type", help="Only this model type, such as llama.")] = None,
    kind: Annotated[str | None, typer.Option("--kind", help="Only this kind: model or adapter.")] = None,
    licence: Annotated[str | None, typer.Option("--licence", "--license", help="Only this licence.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=MAX_LIMIT, help="At most so many.")] = 50,
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
    with Zoo(catalog) as zoo:
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
    limit: Annotated[int, typer.Option("--limit", min=1, max=MAX_LIMIT, help="At most so many.")] = 50,
    catalog: CatalogOption = None,
    format: FormatOption = Format.table,  # noqa: A002 - the option's own name
    json: JsonOption = False,
) -> None:
    """Which models in the catalog can be combined with MODEL, best first."""
    with Zoo(catalog, needed=True) as zoo:
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

    with Zoo(catalog) as zoo:
        left, right = zoo.entry(a), zoo.entry(b)
        match = match_models(left.record, left.sketch, right.record, right.sketch, zoo.graph(left, right))
        emit(
            format,
            json,
            data=lambda: {"left": left.record.reference, "right": right.record.reference} | match.to_json(),
            table=lambda: zoo_view.print_why(left.record, match),
            quiet=lambda: [match.level.value],
        )


app.command()(lineage)
