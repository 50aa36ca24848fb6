"""`hubmerge zoo lineage`: who descends from whom, and the common ancestor that a recipe can take as its base."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hubmerge.cli.output import Format, JsonOption, emit, note, say
from hubmerge.cli.zoo_names import CatalogOption, Zoo

if TYPE_CHECKING:
    from zoo_index.lineage_answers import CommonAncestor, Lineage

__all__ = ["lineage"]


class _Format(StrEnum):
    table = "table"
    json = "json"
    quiet = "quiet"
    mermaid = "mermaid"


def lineage(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL",
            help="Names in the catalog, model folders or models on the Hub; several: their ancestor.",
        ),
    ],
    catalog: CatalogOption = None,
    format: Annotated[  # noqa: A002 - the option's own name
        _Format,
        typer.Option("--format", help="table for people, json for programs, quiet for names, mermaid for a graph."),
    ] = _Format.table,
    json: JsonOption = False,
) -> None:
    """What MODEL was made from and what was made from it; of several models, the nearest common ancestor."""
    from zoo_index.lineage_drawing import draw_mermaid, draw_tree

    with Zoo(catalog) as zoo:
        asked = [zoo.mentioned(name) for name in models]
        graph = zoo.graph(*(one for one in asked if not isinstance(one, str)))
        references = [graph.resolve(one if isinstance(one, str) else one.record.reference) for one in asked]
        found = [graph.lineage(reference) for reference in references]
        ancestor = graph.common_ancestor(references) if len(found) > 1 else None
        if format is _Format.mermaid and not json:
            say(draw_mermaid(found))
            return

        def table() -> None:
            for one in found:
                for line in draw_tree(one):
                    say(line)
            if len(found) > 1:
                _print_ancestor(ancestor, found)

        emit(
            Format(format.value) if format is not _Format.mermaid else Format.table,
            json,
            data=lambda: _data(found, ancestor),
            table=table,
            quiet=lambda: _names(found, ancestor),
        )
        if len(found) > 1 and ancestor is None:
            note("no common ancestor is declared; `hubmerge zoo why A B` compares their weights")


def _data(found: list[Lineage], ancestor: CommonAncestor | None) -> Any:
    if len(found) == 1:
        return found[0].to_json()
    return {
        "common_ancestor": ancestor.to_json() if ancestor else None,
        "models": [one.to_json() for one in found],
    }


def _names(found: list[Lineage], ancestor: CommonAncestor | None) -> list[str]:
    if len(found) > 1:
        return [ancestor.reference] if ancestor else []
    return [relative.reference for relative in (*found[0].ancestors, *found[0].descendants)]


def _print_ancestor(ancestor: CommonAncestor | None, found: list[Lineage]) -> None:
    if ancestor is None:
        say("no common ancestor")
        return
    unknown = "" if ancestor.in_catalog else " (not in the catalog)"
    say(f"common ancestor{unknown}: {ancestor.reason}")
    say(f"base_model: {ancestor.reference}")
    if ancestor.reference in {one.reference for one in found}:
        note(f"{ancestor.reference} is one of the models: as base_model it has no task vector of its own")
