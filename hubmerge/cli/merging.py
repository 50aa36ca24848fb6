"""`hubmerge plan`, `merge` and `verify`."""

from __future__ import annotations

import os
import shlex
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hubmerge.cli import output
from hubmerge.cli.interrupts import interruptible
from hubmerge.cli.merge_words import how_far_told, how_written, tell_before, weight_bytes, work_of
from hubmerge.cli.output import Format, FormatOption, JsonOption
from hubmerge.errors import PlanError, RecipeError
from hubmerge.sizes import parse_size, size_text

if TYPE_CHECKING:
    from hubmerge.recipe import Recipe

__all__ = ["merge", "plan", "verify"]

RecipeArgument = Annotated[
    Path,
    typer.Argument(
        help="The recipe: a YAML file; - reads it from standard input.", metavar="RECIPE", show_default=False
    ),
]
JobsOption = Annotated[
    int | None,
    typer.Option("--jobs", "-j", min=1, help="Worker threads; default: the cores at hand.", show_default=False),
]
StrictOption = Annotated[bool, typer.Option("--strict", help="Treat warnings as errors.")]


def _bytes(text: str | int) -> int:
    try:
        return parse_size(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


MemoryOption = Annotated[
    int | None,
    typer.Option(
        "--memory",
        parser=_bytes,
        metavar="SIZE",
        help="What the workers' buffers may take, like 500MB; default: 2GB. For pleas, transport and mal: what all of the merge takes beside torch.",
        show_default=False,
    ),
]


def _read(recipe: Path) -> Recipe:
    from hubmerge.dialect import read_yaml
    from hubmerge.recipe import Recipe, load_recipe

    if str(recipe) != "-":
        return load_recipe(recipe)
    try:
        text = sys.stdin.read()
    except UnicodeDecodeError:
        raise RecipeError("this is not UTF-8 text", where="standard input", hint="pipe in a recipe in YAML") from None
    return Recipe.parse(read_yaml(text, "standard input", Recipe.model_fields), where="standard input")


def _keep_safe(recipe: Path, out: Path) -> None:
    if Path(os.path.realpath(out)) in Path(os.path.realpath(recipe)).parents:  # of links in a circle, resolve() raises
        raise PlanError(
            f"the recipe lies in {out}, which is to be replaced",
            where=str(recipe),
            hint="move it out, or choose another OUT",
        )


def plan(
    recipe: RecipeArgument,
    jobs: JobsOption = None,
    memory: MemoryOption = None,
    strict: StrictOption = False,
    format: FormatOption = Format.table,  # noqa: A002 - the option's own name
    json: JsonOption = False,
) -> None:
    """Show what a merge would do: steps, bytes, memory, files, warnings.  Reads headers only, writes nothing."""
    from hubmerge.plan import build_plan

    planned = build_plan(_read(recipe), jobs=jobs, memory=memory, strict=strict)
    output.emit(
        format,
        json,
        data=planned.to_dict,
        table=lambda: output.say(str(planned)),
        quiet=lambda: [planned.hash],
    )


def merge(
    recipe: RecipeArgument,
    out: Annotated[
        Path, typer.Argument(help="Folder to write the merged model to.", metavar="OUT", show_default=False)
    ],
    jobs: JobsOption = None,
    memory: MemoryOption = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Discard what an interrupted merge left in OUT.partial.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an OUT that holds another merge.")] = False,
    digest: Annotated[
        bool,
        typer.Option("--digest/--no-digest", help="Record sha256 of the weights; publishing adds what is missing."),
    ] = True,
    device: Annotated[
        str, typer.Option("--device", help="Where methods of whole matrices compute: cpu, cuda, cuda:1, mps.")
    ] = "cpu",
    strict: StrictOption = False,
    format: FormatOption = Format.table,  # noqa: A002 - the option's own name
    json: JsonOption = False,
) -> None:
    """Merge the models of a recipe into the folder OUT.  A merge that was interrupted is gone on with."""
    from hubmerge.cli.quick_start import start_quickly, without_collecting

    begun = time.perf_counter()
    with without_collecting():
        start_quickly()

        from hubmerge.assemble import merge_plan
        from hubmerge.plan import build_plan

    if overwrite:
        _keep_safe(recipe, out)
    with interruptible():
        with without_collecting():
            planned = build_plan(_read(recipe), jobs=jobs, memory=memory, strict=strict)
        tell_before(planned, device, jobs)
        with output.progress(*work_of(planned)) as advance:
            merged = merge_plan(
                planned,
                out,
                fresh=fresh,
                overwrite=overwrite,
                digest=digest,
                device=device,
                progress=advance,
                note=output.note,
            )
    manifest = merged.manifest
    seconds = time.perf_counter() - begun

    def table() -> None:
        if merged.already_done:
            output.say(f"already done: {out} holds this merge (plan {planned.hash[:12]})")
            return
        counted = ", ".join(f"{count} {what}" for what, count in manifest.tensors.items() if count)
        tensors, size = sum(manifest.tensors.values()), weight_bytes(manifest)
        output.say(
            f"{out}: {tensors} tensor{'s' * (tensors != 1)} ({counted}), {size_text(size)} {manifest.dtype}, {seconds:.1f} s"
            f"{how_written(merged)}"
        )
        for line in how_far_told(manifest):
            output.say(f"  {line}")
        output.note(f"next: hubmerge verify {shlex.quote(str(out))}")

    output.emit(format, json, data=lambda: manifest.model_dump(mode="json"), table=table, quiet=lambda: [out])


def verify(
    out: Annotated[Path, typer.Argument(help="A merged folder.", metavar="OUT", show_default=False)],
    reload: Annotated[
        bool, typer.Option("--reload/--no-reload", help="Also load it with transformers and run it once.")
    ] = True,
    fetch: Annotated[
        bool, typer.Option("--fetch", help="Download parents that are on the Hub, to derive it again.")
    ] = False,
    jobs: JobsOption = None,
    format: FormatOption = Format.table,  # noqa: A002 - the option's own name
    json: JsonOption = False,
) -> None:
    """Check a merged folder: its files' digests, derivation from its parents, reload with finite outputs."""
    from hubmerge.cli.quick_start import start_quickly

    start_quickly()

    from hubmerge.manifest import read_manifest
    from hubmerge.verify import verify_merge

    if reload or read_manifest(out).whole_only:  # then models are loaded to derive it again
        output.quiet_transformers()
    result = verify_merge(out, reload=reload, fetch=fetch, jobs=jobs)
    words = {True: "ok", False: "FAILED", None: "skipped"}
    levels = {
        "exact": "derived again from its parents, byte for byte",
        "tolerance": "derived again from its parents, within the tolerance of its method",
        "recorded": "recorded digests only; it was not derived again",
    }

    def table() -> None:
        for check in result.checks:
            output.say(f"{check.name:<11}{words[check.passed]:<8} {check.detail}")
        if result.passed:
            output.say(f"{out}: verified, {levels[result.level]}")
        elif all(check.passed is not False for check in result.checks):
            output.say(f"{out}: NOT verified: only its sizes are recorded, and it was not derived again")
        else:
            output.say(f"{out}: NOT what its manifest says")

    output.emit(
        format, json, data=result.to_dict, table=table, quiet=lambda: [result.level if result.passed else "failed"]
    )
    if not result.passed:
        sys.exit(1)
