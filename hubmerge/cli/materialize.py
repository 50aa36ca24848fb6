"""`hubmerge materialize`: a repository that holds only a recipe becomes a checkpoint on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hubmerge.cli import output
from hubmerge.cli.interrupts import interruptible
from hubmerge.cli.output import Format, FormatOption, JsonOption
from hubmerge.sizes import size_text

__all__ = ["materialize"]


def materialize(
    repo: Annotated[str, typer.Argument(help="user/name on the Hub, or a folder.", metavar="REPO", show_default=False)],
    out: Annotated[Path, typer.Argument(help="Folder to write the model to.", metavar="OUT", show_default=False)],
    revision: Annotated[
        str | None, typer.Option("--revision", help="Branch, tag or commit; default: main.", show_default=False)
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an OUT that holds another merge.")] = False,
    format: FormatOption = Format.table,  # noqa: A002 - the option's own name
    json: JsonOption = False,
) -> None:
    """Merge a published recipe again, and compare every file with the digests that were published."""
    from hubmerge.materialization import materialize as write

    with interruptible():
        manifest = write(repo, out, revision=revision, overwrite=overwrite)
    size = size_text(sum(file.size for file in manifest.files.values()))
    output.emit(
        format,
        json,
        data=lambda: manifest.model_dump(mode="json"),
        table=lambda: output.say(f"{out}: {len(manifest.files)} files, {size}, as they were published"),
        quiet=lambda: [out],
    )
