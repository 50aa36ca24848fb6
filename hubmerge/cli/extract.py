"""`hubmerge extract`: a LoRA adapter out of a fine-tune."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hubmerge.cli import output
from hubmerge.cli.interrupts import interruptible
from hubmerge.cli.output import Format, FormatOption, JsonOption

if TYPE_CHECKING:
    from hubmerge.deltas.extraction_record import Extraction
    from hubmerge.deltas.truncation import Solver

__all__ = ["extract"]


def extract(
    base: Annotated[str, typer.Argument(help="The model that was trained.", metavar="BASE", show_default=False)],
    fine_tuned: Annotated[str, typer.Argument(help="What it became.", metavar="FINE_TUNED", show_default=False)],
    out: Annotated[Path, typer.Argument(help="A new folder for the adapter.", metavar="OUT", show_default=False)],
    rank: Annotated[
        int | None,
        typer.Option(help="Of every module, at most; 16 unless --energy is given.", min=1, show_default=False),
    ] = None,
    energy: Annotated[
        float | None,
        typer.Option(help="Keep this share of every module's change, as 0.95.", show_default=False),
    ] = None,
    exact: Annotated[bool, typer.Option("--exact", help="Find all singular vectors of every change.")] = False,
    randomised: Annotated[
        bool, typer.Option("--randomised", help="Find only as many as are wanted; default: by size.")
    ] = False,
    modules: Annotated[
        list[str] | None,
        typer.Option(
            help="Only these: a name, its end, or a pattern; again for more.", metavar="PATTERN", show_default=False
        ),
    ] = None,
    alpha: Annotated[
        float | None, typer.Option(help="lora_alpha to write; the change is the same.", show_default=False)
    ] = None,
    save_rest: Annotated[
        bool, typer.Option("--save-rest", help="Save whole what changed and cannot have factors.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Of the randomised solver.", min=0)] = 0,
    jobs: Annotated[
        int | None, typer.Option("--jobs", "-j", min=1, help="Threads; default: the cores at hand.", show_default=False)
    ] = None,
    format: FormatOption = Format.table,  # noqa: A002 - the option's own name
    json: JsonOption = False,
) -> None:
    """Write a LoRA adapter that makes of BASE what is nearest to FINE_TUNED, for PEFT.

    Every linear layer and convolution gets the leading singular vectors of its change. What changed beside them (norms,
    embeddings, biases) is told with its share of the change.
    """
    from hubmerge.deltas import extract_adapter

    if exact and randomised:
        raise typer.BadParameter("a change is decomposed in one way", param_hint="--exact and --randomised")
    solver: Solver = "exact" if exact else "randomised" if randomised else "auto"
    output.calm_downloads()
    output.quiet_transformers()
    with interruptible():
        found = extract_adapter(
            base, fine_tuned, out, rank=rank, energy=energy, solver=solver, modules=modules or (), alpha=alpha,
            save_rest=save_rest, seed=seed, jobs=jobs,
        )  # fmt: skip
    for note in found.notes:
        output.note(note)
    output.emit(format, json, data=found.to_dict, table=lambda: _print(found, out), quiet=lambda: [out])
    for warning in found.warnings:
        output.note(f"warning: {warning}")


def _print(found: Extraction, out: Path) -> None:
    columns = ("module", "shape", "rank", "energy", "norm of the change")
    rows = [
        (each.module, " x ".join(map(str, each.shape)), each.rank, f"{each.energy:.4f}", each.norm)
        for each in found.modules
    ]
    output.print_table(columns, rows)
    output.say()
    if found.left:
        shares = [
            (
                why,
                sum(each.why == why for each in found.left),
                sum(each.saved for each in found.left if each.why == why),
                f"{share:.4f}",
            )
            for why, share in found.shares.items()
        ]
        output.print_table(("changed and without factors", "tensors", "saved whole", "share of the change"), shares)
        output.say()
    ranks = [each.rank for each in found.modules]
    span = f"rank {ranks[0]}" if len(set(ranks)) == 1 else f"ranks {min(ranks)} to {max(ranks)}"
    unchanged = f", without a change {len(found.unchanged)}" if found.unchanged else ""
    output.say(
        f"{out}: modules {len(ranks)}{unchanged}, {span}, {found.energy:.4f} of the whole change; "
        f"the change has {found.ratio:.4f} of the base's norm"
    )
