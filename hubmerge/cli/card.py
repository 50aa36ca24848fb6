"""`hubmerge card`: write the model card of a merge, or say what it lacks."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hubmerge.cli.output import Format, FormatOption, JsonOption, emit, note, say

if TYPE_CHECKING:
    from cards.card_check import Finding

__all__ = ["card"]


def card(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The merge: the folder that `hubmerge merge` wrote.")],
    results: Annotated[
        Path | None, typer.Option("--results", metavar="FILE", help="What `hubmerge evaluate --out` wrote.")
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; print what the card lacks, exit 1 on errors.")
    ] = False,
    name: Annotated[str | None, typer.Option("--name", help="The model's name; default: the folder's.")] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a card that a person wrote or changed.")
    ] = False,
    format: FormatOption = Format.table,  # noqa: A002 - the option's own name
    json: JsonOption = False,
) -> None:
    """Write OUT/README.md: what was merged, from what, how good it is, under which licence."""
    import cards

    if check and (results is not None or name is not None or overwrite):
        raise typer.BadParameter("--check writes nothing, so --results, --name and --overwrite mean nothing with it")
    if not check:
        report = cards.write_card(out, results, name=name, overwrite=overwrite)
    findings = cards.check_card(out) if check else report.findings
    path = out / "README.md"
    emit(
        format,
        json,
        data=lambda: {"card": str(path), "findings": [asdict(finding) for finding in findings]},
        table=lambda: say(_text(path, findings, written=not check)),
        quiet=lambda: findings if check else [path],
    )
    if any(finding.level == "error" for finding in findings):
        note("the card is not fit to be published")
        sys.exit(1)


def _text(path: Path, findings: Sequence[Finding], *, written: bool) -> str:
    head = f"card written: {path}" if written else f"card: {path}{'' if findings else ' is complete'}"
    return "\n".join([head, *(f"  {finding.level}: {finding}" for finding in findings)])
