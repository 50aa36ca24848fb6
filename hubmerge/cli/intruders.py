"""`hubmerge intruders`: the leading directions of models that their base has not, side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from hubmerge.cli import output
from hubmerge.cli.output import Format, FormatOption, JsonOption
from hubmerge.short_names import short_names

if TYPE_CHECKING:
    from hubmerge.deltas.intruders_record import Intruders

__all__ = ["intruders"]


def intruders(
    base: Annotated[str, typer.Argument(help="The model that was trained.", metavar="BASE", show_default=False)],
    models: Annotated[
        list[str], typer.Argument(help="Models, adapters and merges.", metavar="MODEL", show_default=False)
    ],
    top: Annotated[int, typer.Option(help="Leading directions of each matrix.", min=1)] = 10,
    threshold: Annotated[float, typer.Option(help="An intruder's cosines are below it.")] = 0.6,
    modules: Annotated[
        list[str] | None,
        typer.Option(
            help="Only these: a name, its end, or a pattern; again for more.", metavar="PATTERN", show_default=False
        ),
    ] = None,
    per_tensor: Annotated[bool, typer.Option("--per-tensor", help="Tell every matrix, not every layer.")] = False,
    jobs: Annotated[
        int | None, typer.Option("--jobs", "-j", min=1, help="Threads; default: the cores at hand.", show_default=False)
    ] = None,
    format: FormatOption = Format.table,  # noqa: A002 - the option's own name
    json: JsonOption = False,
) -> None:
    """Count intruder dimensions: leading singular vectors of a model that are like none of its base.

    Parents and their merge side by side show what a merge does to them.
    """
    from hubmerge.deltas import intruder_dimensions

    output.calm_downloads()
    output.quiet_transformers()
    found = intruder_dimensions(base, models, top=top, threshold=threshold, modules=modules or (), jobs=jobs)
    for note in found.notes:
        output.note(note)
    output.emit(
        format,
        json,
        data=found.to_dict,
        table=lambda: _print(found, per_tensor=per_tensor),
        quiet=lambda: found.total,
    )


def _print(found: Intruders, *, per_tensor: bool) -> None:
    by = "tensor" if per_tensor else "layer"
    rows = [(row.part, row.directions, *row.counts) for row in found.table("tensor" if per_tensor else "layer")]
    output.print_table((by, "directions", *short_names(found.models)), [*rows, ("all", found.directions, *found.total)])
    output.say()
    names = short_names(found.models)
    lowest = ", ".join(f"{name} {cosine:.3f}" for name, cosine in zip(names, found.lowest, strict=True))
    output.say(f"lowest cosine: {lowest}")
