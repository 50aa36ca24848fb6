"""`hubmerge publish`: put a merge and its card into a folder to be shared."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hubmerge.cli.output import Format, FormatOption, JsonOption, emit, note, say

__all__ = ["publish"]


def publish(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The merge: the folder that `hubmerge merge` wrote.")],
    target: Annotated[str, typer.Argument(metavar="./FOLDER", help="The folder to make.")],
    as_: Annotated[str, typer.Option("--as", metavar="KIND", help="What to publish: dense.")] = "dense",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and its checks; write nothing.")] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an earlier publish that is not the same.")
    ] = False,
    format: FormatOption = Format.table,  # noqa: A002 - the option's own name
    json: JsonOption = False,
) -> None:
    """Check a merge and copy it, complete or not at all, with its card and without anything private, into ./FOLDER."""
    import cards

    if as_ not in {"dense", "adapter", "recipe"}:
        raise typer.BadParameter(f"{as_!r} is not one of dense, adapter, recipe", param_hint="--as")
    plan = cards.publish(out, target, dry_run=dry_run, as_=as_, overwrite=overwrite)  # type: ignore[arg-type]  # checked above
    emit(
        format,
        json,
        data=plan.to_json,
        table=lambda: say(str(plan)),
        quiet=lambda: [plan.target],
    )
    if dry_run:
        note("dry run: nothing was written")
        faults = [cards.PublishError(check.message, where=check.where, hint=check.hint) for check in plan.failed]
        if faults:
            raise cards.PublishError.of(faults)
    else:
        note("already published" if plan.state == "already published" else f"published: {plan.target}")
