"""`hubmerge kinship`: how alike what several models learned on top of one base is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hubmerge.cli import output
from hubmerge.cli.output import Format, FormatOption, JsonOption
from hubmerge.errors import MergeError
from hubmerge.short_names import short_names

if TYPE_CHECKING:
    from hubmerge.deltas.kinship_record import Kinship

__all__ = ["kinship"]


def kinship(
    models: Annotated[
        list[str],
        typer.Argument(
            help="Two models or adapters, or more; base+adapter is one, too.", metavar="MODEL", show_default=False
        ),
    ],
    base: Annotated[
        str | None,
        typer.Option(
            help="The model they were trained from; adapters alone need none.", metavar="BASE", show_default=False
        ),
    ] = None,
    per_layer: Annotated[bool, typer.Option("--per-layer", help="Tell every layer, too.")] = False,
    absolute: Annotated[
        bool, typer.Option("--absolute", help="Cosines without their sign, as the paper's authors have them.")
    ] = False,
    plot: Annotated[
        Path | None,
        typer.Option(
            help="A file for the heat map: .svg, or .html with the table.", metavar="FILE", show_default=False
        ),
    ] = None,
    jobs: Annotated[
        int | None, typer.Option("--jobs", "-j", min=1, help="Threads; default: the cores at hand.", show_default=False)
    ] = None,
    format: FormatOption = Format.table,  # noqa: A002 - the option's own name
    json: JsonOption = False,
) -> None:
    """Compare what models learned on top of their base: Pearson correlation, cosine and distance of every two deltas.

    Each is told for the whole deltas and as the mean over tensors ("split"), weighted by their entries. The models are read
    once, tensor by tensor. Adapters are compared by the products of their factors, without building them.
    """
    from hubmerge.deltas import kinship as compare

    if plot is not None and plot.suffix not in {".svg", ".html"}:
        raise typer.BadParameter("the file must end in .svg or .html", param_hint="--plot")
    output.calm_downloads()
    found = compare(models, base, jobs=jobs)
    for note in found.notes:
        output.note(note)
    output.emit(
        format,
        json,
        data=lambda: found.to_dict("layer" if per_layer else "pair"),
        table=lambda: _print(found, per_layer=per_layer, absolute=absolute),
        quiet=lambda: [found.mean["pearson"]],
    )
    for warning in found.warnings:
        output.note(f"warning: {warning}")
    if plot is not None:
        _draw(found, plot)


def _print(found: Kinship, *, per_layer: bool, absolute: bool) -> None:
    names = short_names(found.models)
    ratios = (ratio if math.isfinite(ratio) else None for ratio in found.ratios.tolist())
    rows = list(zip(names, found.norms.tolist(), ratios, strict=True))
    output.print_table(("model", "norm of the delta", "of the base's"), rows)
    output.say()
    cosine = "absolute" if absolute else "cosine"
    shown = ("pearson", cosine, "euclid")
    titles = tuple("|cosine|" if name == "absolute" else name for name in shown)
    called = dict(zip(found.models, names, strict=True))
    lines = [
        (called[row.model], called[row.other], *_told(row.numbers, [*shown, *(f"split_{name}" for name in shown)]))
        for row in found.pairs()
    ]
    mean = _told(found.mean, [*shown, *(f"split_{name}" for name in shown)])
    more = [("mean over pairs", "", *mean)] if len(lines) > 1 else []
    columns = ("model", "other", *titles, *(f"split {title}" for title in titles))
    output.print_table(columns, [*lines, *more])
    if per_layer:
        output.say()
        rest = [
            (row.part, called[row.model], called[row.other], *_told(row.numbers, shown)) for row in found.pairs("layer")
        ]
        output.print_table(("layer", "model", "other", *titles), rest)
    output.say()
    output.say(f"compared: {found.entries:,} entries, tensors: {len(found.tensors)}")


def _told(numbers: Mapping[str, float], names: Sequence[str]) -> list[str | None]:
    return [f"{numbers[name]:.4f}" if math.isfinite(numbers[name]) else None for name in names]


def _draw(found: Kinship, path: Path) -> None:
    from hubmerge.deltas.heat_map import page_of, svg_of

    try:
        path.write_text(page_of(found) if path.suffix == ".html" else svg_of(found), encoding="utf-8")
    except OSError as error:
        raise MergeError(
            f"the heat map cannot be written ({error.strerror})", where=str(path), hint="name another file"
        ) from error
    output.note(f"written: {path}")
