"""`hubmerge publish`: put a merge and its card into a folder to be shared, or into a repository on the Hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hubmerge.cli.output import Format, FormatOption, JsonOption, emit, note, say

__all__ = ["publish"]

_KINDS = ("dense", "adapter", "recipe")


def publish(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The merge: the folder that `hubmerge merge` wrote.")],
    target: Annotated[
        str, typer.Argument(metavar="REPO", help="user/name on the Hub, or ./folder to make.", show_default=False)
    ],
    as_: Annotated[
        str | None,
        typer.Option(
            "--as",
            metavar="KIND",
            help="dense, adapter, or recipe (a few kilobytes without weights; the parents must be on the Hub). Default: what OUT holds.",
            show_default=False,
        ),
    ] = None,
    public: Annotated[
        bool, typer.Option("--public", help="Let everyone see it; without this a new repository is private.")
    ] = False,
    create_pr: Annotated[
        bool, typer.Option("--create-pr", help="Propose it as a pull request to a repository that exists.")
    ] = False,
    message: Annotated[
        str | None, typer.Option("--message", help="The commit's message.", metavar="TEXT", show_default=False)
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and its checks; write nothing.")] = False,
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Replace what is there: an earlier folder, or a repository's own weights."),
    ] = False,
    yes: Annotated[
        bool,
        typer.Option("--yes", help="Publish although a parent is gated, or its licence wants a person's decision."),
    ] = False,
    format: FormatOption = Format.table,  # noqa: A002 - the option's own name
    json: JsonOption = False,
) -> None:
    """Check a merge and publish it, complete or not at all, with its card and without anything private."""
    import cards

    if as_ is not None and as_ not in _KINDS:
        raise typer.BadParameter(f"{as_!r} is not one of {', '.join(_KINDS)}", param_hint="--as")
    plan = cards.publish(
        out,
        target,
        dry_run=dry_run,
        as_=as_,  # type: ignore[arg-type]  # checked above
        overwrite=overwrite,
        public=public,
        create_pr=create_pr,
        message=message,
        yes=yes,
    )
    emit(
        format,
        json,
        data=plan.to_json,
        table=lambda: say(str(plan)),
        quiet=lambda: [plan.url or plan.target],
    )
    if dry_run:
        note("dry run: nothing was written")
        faults = [cards.PublishError(check.message, where=check.where, hint=check.hint) for check in plan.failed]
        if faults:
            raise cards.PublishError.of(faults)
    else:
        note("already published" if plan.state == "already published" else f"published: {plan.url or plan.target}")
