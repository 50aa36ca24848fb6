"""`hubmerge symmetry`: which axes of a model's tensors share an index, what may be done to it, and two models in one order."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hubmerge.cli import output
from hubmerge.cli.output import Format, FormatOption, JsonOption

if TYPE_CHECKING:
    from hubmerge.symmetry import Group, Matching, SymmetrySpec
    from hubmerge.symmetry.draft import Draft
    from zoo_index.families import Family

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True)
TableOption = Annotated[
    Path | None,
    typer.Option(help="A file with the symmetry table to use, as `symmetry draft` writes it.", show_default=False),
]


@app.callback()
def _root() -> None:
    """See the symmetries of a model, and bring one model into another's order."""


@app.command(short_help="Print the permutation groups of a model; reads headers only.")
def show(
    model: Annotated[str, typer.Argument(help="A folder or a name on the Hub.", metavar="MODEL", show_default=False)],
    table: TableOption = None,
    format: FormatOption = Format.table,  # noqa: A002 - the option's own name
    json: JsonOption = False,
) -> None:
    """Print the permutation groups of a model, their sizes, and the axes that share them; reads headers only."""
    from hubmerge.parents import open_parent
    from hubmerge.symmetry import load_spec
    from zoo_index.reference import ModelRef

    parent = open_parent(ModelRef.parse(model))
    shapes = {name: meta.shape for name, meta in parent.table.items()}
    spec = load_spec(parent.config, shapes, where=model, family=_family(table))
    output.emit(
        format,
        json,
        data=lambda: {"model": model, **_facts(spec)},
        table=lambda: _print_spec(spec),
        quiet=lambda: spec.groups,
    )


@app.command(short_help="Write a model with its units in the order of another's.")
def align(
    base: Annotated[str, typer.Argument(help="The model whose order is taken.", metavar="BASE", show_default=False)],
    model: Annotated[str, typer.Argument(help="The model that is reordered.", metavar="MODEL", show_default=False)],
    out: Annotated[Path, typer.Argument(help="A new folder.", metavar="OUT", show_default=False)],
    seed: Annotated[
        int, typer.Option(help="Of the order in which groups are visited, and of random starts.", min=0)
    ] = 0,
    restarts: Annotated[int, typer.Option(help="Further starts, from random orders; the best is taken.", min=0)] = 2,
    without: Annotated[
        list[str] | None,
        typer.Option(help="A group that stays as it is: its name in `symmetry show`; again for more.", metavar="GROUP"),
    ] = None,
    table: TableOption = None,
    format: FormatOption = Format.table,  # noqa: A002 - the option's own name
    json: JsonOption = False,
) -> None:
    """Write MODEL into OUT with its units in the order in which they are most like those of BASE.

    Both have one architecture, the same shapes and the same groups, and neither has an adapter. OUT computes what MODEL does
    with its weights in other places, so that any method can then merge it with BASE, or with others that were aligned with
    BASE.
    """
    from hubmerge.align import align_model

    found = align_model(base, model, out, seed=seed, restarts=restarts, without=without or (), family=_family(table))
    output.emit(
        format,
        json,
        data=lambda: {
            "out": str(out), "similarity": found.similarity, "before": found.before,
            "groups": {name: vars(group) for name, group in found.groups.items()},
        },
        table=lambda: _print_matching(found, out),
        quiet=lambda: [str(out)],
    )  # fmt: skip
    output.note(f"next: merge {out} with {base}, by any method")


@app.command(short_help="Draft the table of an architecture that has none.")
def draft(
    model: Annotated[str, typer.Argument(help="A folder or a name on the Hub.", metavar="MODEL", show_default=False)],
    out: Annotated[Path | None, typer.Option(help="A new file for the table.", show_default=False)] = None,
    seed: Annotated[int, typer.Option(help="Of the small model and of the proof.", min=0)] = 0,
    format: FormatOption = Format.table,  # noqa: A002 - the option's own name
    json: JsonOption = False,
) -> None:
    """Draft a symmetry table for a model's architecture, prove it, and print it as a file.

    Only config.json is read. A small random model of the same class is made, its graph followed index by index (torch.export), and
    every group that the graph suggests is tried: a random change of it must leave the answers alone. A group that fails stays as it
    is, and is named.
    """
    from hubmerge.gguf import open_model
    from hubmerge.symmetry.draft import draft_table
    from hubmerge.symmetry.draft_file import family_file, write_family
    from zoo_index.checkpoint import read_config
    from zoo_index.reference import ModelRef

    output.quiet_transformers()
    found = draft_table(read_config(open_model(ModelRef.parse(model))), where=model, seed=seed)
    text = family_file(
        found.family, f"{found.family.name}: drafted by `hubmerge symmetry draft`, proved on a small random model."
    )
    if out is not None:
        write_family(out, text)
    output.emit(
        format,
        json,
        data=lambda: {
            "model": model, **_facts(found.spec), "table": text, "proof": {"error": found.proof.error, "groups": found.proof.groups},
            "left_out": [{"axis": axis, "why": why} for axis, why in found.left_out], "without_rule": dict(found.unknown),
        },
        table=lambda: output.say(text if out is None else f"{out}: {len(found.spec.tensors)} tensors, {len(found.spec.groups)} groups"),
        quiet=lambda: found.spec.groups,
    )  # fmt: skip
    _note_draft(found, model, out)


def _note_draft(found: Draft, model: str, out: Path | None) -> None:
    output.note(f"the proof {found.proof}, on a small model of the same class")
    for axis, why in found.left_out:
        output.note(f"{axis} stays as it is: {why}")
    for operation, count in found.unknown.items():
        output.note(f"no rule for {operation} (used {count} times): what it touches stays as it is")
    file = out or "the file"
    output.note(f"next: `hubmerge symmetry show {model} --table {file}`, and `symmetry align` with the same option")
    output.note("for merges of unlike models, put the file into zoo_index/families, with a model in its test")


def _family(table: Path | None) -> Family | None:
    """The family of a table's file; None where none is named."""
    from hubmerge.symmetry.draft_file import read_family

    return None if table is None else read_family(table)


def _print_matching(found: Matching, out: Path) -> None:
    output.print_table(
        ("group", "size", "moved", "similarity", "before"),
        [
            (name, group.size, group.moved, f"{group.similarity:.3f}", f"{group.before:.3f}")
            for name, group in found.groups.items()
        ],
    )
    output.say()
    output.say(f"{out}: cosine of all weights with the base's {found.similarity:.3f}, before {found.before:.3f}")


def _facts(spec: SymmetrySpec) -> dict[str, Any]:
    axes: dict[str, list[dict[str, Any]]] = {name: [] for name in spec.groups}
    for tensor in spec.tensors.values():
        for i, axis in enumerate(tensor.axes):
            for factor in (factor for segment in axis for factor in segment if factor.group):
                axes[str(factor.group)].append({"tensor": tensor.name, "axis": i, "role": factor.role.name.lower()})
    return {
        "family": spec.family,
        "groups": [
            {
                "name": group.name, "kind": group.kind.value, "size": group.size, "in": group.outer, "norm": group.norm,
                "note": group.note, "axes": axes[group.name],
            }
            for group in spec.groups.values()
        ],
        "tensors": [
            {"name": tensor.name, "shape": list(tensor.shape), "axes": str(tensor)} for tensor in spec.tensors.values()
        ],
        "tied": [{"tensor": name, "stored_as": stored} for name, stored in spec.tied],
        "same": [{"group": name, "is": other} for name, other in spec.same],
    }  # fmt: skip


def _print_spec(spec: SymmetrySpec) -> None:
    output.say(f"{spec.family}: {len(spec.tensors)} tensors, {len(spec.groups)} groups")
    output.say()
    alike: dict[tuple[Any, ...], list[Group]] = {}
    for group in spec.groups.values():
        outer = spec.groups[group.outer].row if group.outer else None
        alike.setdefault((group.row, group.kind.value, group.size, outer, group.norm), []).append(group)
    output.print_table(
        ("group", "groups", "kind", "size", "in each", "norm"),
        [(row if len(groups) > 1 else groups[0].name, len(groups), *rest) for (row, *rest), groups in alike.items()],
    )
    output.say()
    rows = Counter((tensor.row, tensor.written) for tensor in spec.tensors.values())
    output.print_table(("tensor", "tensors", "axes"), [(name, count, axes) for (name, axes), count in rows.items()])
    notes = [f"{name} is {other}" for name, other in (*spec.tied, *spec.same)]
    notes += [f"{group.name} stays as it is: {group.note}" for group in spec.groups.values() if group.note]
    if notes:
        output.say()
    for note in notes:
        output.say(note)
