"""`hubmerge evaluate`: score models on a suite, side by side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hubmerge.cli.output import Format, FormatOption, JsonOption, emit, note, print_table, say

if TYPE_CHECKING:
    from cards.results import Results

__all__ = ["evaluate"]


def evaluate(
    models: Annotated[
        list[str],
        typer.Argument(metavar="MODEL", help="Folders, org/name, or base+adapter; a merge first, then its parents."),
    ],
    suite: Annotated[Path, typer.Option("--suite", metavar="SUITE.yaml", help="The tasks to run.")],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Also write the results here, for `hubmerge card`.")
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(
            "--batch-size", min=1, help="Rows at once; default: the suite's, or 32 images, 16 texts, 4 windows."
        ),
    ] = None,
    device: Annotated[str, typer.Option("--device", help="A torch device; auto: the one accelerate picks.")] = "auto",
    format: FormatOption = Format.table,  # noqa: A002 - the option's own name
    json: JsonOption = False,
) -> None:
    """Score models on the tasks of a suite: value ± standard error for each, on the same samples."""
    import cards
    from cards.whole_files import write_whole

    if out is not None and not out.absolute().parent.is_dir():
        raise typer.BadParameter(f"the folder of {out} does not exist", param_hint="--out")
    if out is not None and out.is_dir():
        raise typer.BadParameter(f"{out} is a folder", param_hint="--out")
    results = cards.evaluate(models, cards.load_suite(suite), batch_size=batch_size, device=device, report=note)
    emit(
        format,
        json,
        data=lambda: results.model_dump(mode="json"),
        table=lambda: _print(results),
        quiet=lambda: (task.value for model in results.models for task in model.tasks),
    )
    if out is not None:  # last: a long evaluation whose file cannot be written is at least printed
        try:
            if out.exists() and not out.is_file():  # /dev/stdout, a pipe
                out.write_text(results.to_json(), encoding="utf-8")
            else:
                write_whole(out.resolve(), results.to_json())
        except OSError as error:
            raise cards.ResultsError(
                f"the results cannot be written ({error.strerror})", where=str(out), hint="name another file"
            ) from error
        note(f"results: {out}")


def _print(results: Results) -> None:
    from cards import compare
    from cards.results import decimals
    from cards.suite import metric_words

    columns, rows = results.table()
    print_table(columns, rows)
    notes = (
        f"{model.name}: {task.name}: {line}" for model in results.models for task in model.tasks for line in task.notes
    )
    for line in dict.fromkeys(notes):
        note(line)
    subject = next((model for model in results.models if model.merge), results.models[0])
    differences = compare(results, subject)
    if not differences:
        return
    say()
    lines = []
    for row in differences:
        places = 4 if row.stderr is None else decimals(row.stderr)
        spread = "" if row.stderr is None else f" ± {row.stderr:.{places}f}"
        against = f"{row.task} {metric_words(row.metric)}"
        lines.append((row.other, against, f"{row.difference:+.{places}f}{spread}", row.outcome))
    print_table(("against", "on", "difference", f"{subject.name} is"), lines)
