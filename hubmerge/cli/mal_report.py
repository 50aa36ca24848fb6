"""`hubmerge mal-report`: how far every layer of a base bears the layers of its donors."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hubmerge.cli import output
from hubmerge.cli.output import Format, FormatOption, JsonOption
from hubmerge.short_names import short_names

if TYPE_CHECKING:
    from hubmerge.heterogeneous.mal_laws import Laws

__all__ = ["mal_report"]

_OPTIONS = {"calibration.data": "--data", "calibration.column": "--column"}
"""What errors about the data, which have a recipe's words, are about here."""


def mal_report(
    base: Annotated[
        str, typer.Argument(help="The model whose layers are measured.", metavar="BASE", show_default=False)
    ],
    donors: Annotated[
        list[str], typer.Argument(help="Models of its architecture.", metavar="DONOR", show_default=False)
    ],
    data: Annotated[
        str, typer.Option(help="Images or texts: a file, a folder, or a dataset on the Hub.", metavar="DATA")
    ],
    labels: Annotated[
        str | None, typer.Option(help="Its column of class numbers, from 0; then the loss is measured, too.")
    ] = None,
    column: Annotated[str | None, typer.Option(help="Its column of images or texts.")] = None,
    samples: Annotated[int, typer.Option(help="How many rows are drawn.", min=1)] = 256,
    tau: Annotated[float, typer.Option(help="The drift up to which a layer is said to bear a donor.", min=0)] = 0.1,
    seed: Annotated[int, typer.Option(help="Which rows are drawn.", min=0)] = 0,
    out: Annotated[
        Path | None, typer.Option(help="A folder for laws.csv and laws.svg; it is made.", metavar="DIR")
    ] = None,
    format: FormatOption = Format.table,  # noqa: A002 - the option's own name
    json: JsonOption = False,
) -> None:
    """Measure, for every layer of a base and every donor, what merging this layer alone would do.

    A donor may be wider, narrower, deeper or shallower than the base, and trained from other weights, but of its architecture.
    The drift is how far the layer's output moves on the input that it has in the base, relative to its size, at every share of
    the donor from 0 to 1. Nothing is merged; the models are held in memory in float32.
    """
    from hubmerge.errors import HubmergeError, MergeError
    from hubmerge.heterogeneous.mal_laws import laws
    from hubmerge.heterogeneous.mal_models import labelled, loaded, opened
    from hubmerge.heterogeneous.mal_plot import svg_of
    from hubmerge.heterogeneous.mal_report import csv_of
    from hubmerge.recipe_calibration import Calibration
    from hubmerge.torch_threads import one_torch_thread

    if out is not None and out.exists() and not out.is_dir():
        raise typer.BadParameter(f"{out} is no folder", param_hint="--out")
    output.quiet_transformers()
    parents = [opened(name) for name in (base, *donors)]
    calibration = Calibration(data=data, column=column, samples=samples, seed=seed)
    try:
        batches, probe = labelled(calibration, parents[0], labels)
    except HubmergeError as error:
        for fault in error.faults:
            fault.where = _OPTIONS.get(fault.where or "", fault.where)
        raise
    first, *others = (loaded(parent) for parent in parents)
    with one_torch_thread():
        found = laws(first, others, batches, probe=probe, names=[str(parent.reference) for parent in parents[1:]])
    for note in batches.notes:
        output.note(note)
    output.emit(
        format,
        json,
        data=lambda: _facts(found, base, donors, batches.digest),
        table=lambda: _print(found, short_names(donors), tau),
        quiet=lambda: (law.largest_within(tau) for law in found.curves),
    )
    if out is None:
        return
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / "laws.csv").write_text(csv_of(found, donors), encoding="utf-8")
        (out / "laws.svg").write_text(svg_of(found, short_names(donors), tau), encoding="utf-8")
    except OSError as error:
        raise MergeError(
            f"the report cannot be written ({error.strerror})", where=str(out), hint="name another folder"
        ) from error
    output.note(f"written: {out / 'laws.csv'}, {out / 'laws.svg'}")


def _print(found: Laws, donors: list[str], tau: float) -> None:
    from hubmerge.heterogeneous.mal_report import table_of

    columns, rows = table_of(found, donors, tau)
    output.print_table(columns, [tuple(_rounded(cell) for cell in row) for row in rows])
    if found.loss is not None:
        output.say()
        output.say(f"loss of the base, BatchNorm's statistics estimated on the same data: {found.loss:.4g}")


def _rounded(cell: Any) -> Any:
    return f"{cell:.3f}" if isinstance(cell, float) else cell


def _facts(found: Laws, base: str, donors: list[str], digest: str) -> dict[str, Any]:
    """The report for programs; a drift or a loss that is not finite is null."""
    curves = [
        {
            **{name: value for name, value in vars(law).items() if name != "points"},
            "donor": donors[law.donor],
            "points": [{name: _finite(value) for name, value in vars(point).items()} for point in law.points],
        }
        for law in found.curves
    ]
    return {"base": base, "donors": donors, "data": digest, "loss": _finite(found.loss), "layers": curves}


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
