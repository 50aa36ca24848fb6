"""`hubmerge symmetry`: which axes of a model's tensors share an index, and what may be done to it."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hubmerge.cli import output
from hubmerge.cli.output import Format, FormatOption, JsonOption

if TYPE_CHECKING:
    from hubmerge.symmetry import Group, SymmetrySpec

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True)


@app.callback()
def _root() -> None:
    """See the symmetries of a model: what can be aligned, and how."""


@app.command(short_help="Print the permutation groups of a model; reads headers only.")
def show(
    model: Annotated[str, typer.Argument(help="A folder or a name on the Hub.", metavar="MODEL", show_default=False)],
    format: FormatOption = Format.table,  # noqa: A002 - the option's own name
    json: JsonOption = False,
) -> None:
    """Print the permutation groups of a model, their sizes, and the axes that share them; reads headers only."""
    from hubmerge.parents import open_parent
    from hubmerge.symmetry import load_spec
    from zoo_index.reference import ModelRef

    parent = open_parent(ModelRef.parse(model))
    spec = load_spec(parent.config, {name: meta.shape for name, meta in parent.table.items()}, where=model)
    output.emit(
        format,
        json,
        data=lambda: {"model": model, **_facts(spec)},
        table=lambda: _print_spec(spec),
        quiet=lambda: spec.groups,
    )


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
