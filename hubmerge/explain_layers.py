"""Which layers of the output come from where, for a recipe of slices or modules: lines of text, and JSON values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hubmerge.explain_values import values_text
from hubmerge.plan_types import Plan
from hubmerge.sections import Section, Source

__all__ = ["layer_lines", "layer_rows"]


def layer_rows(plan: Plan) -> list[dict[str, Any]]:
    """One row for each slice, or for each module of whole models; empty for a recipe of the `models` form.

    Layers are pairs of the first and the one after the last, counted from 0 within the module; None: all of them.
    """
    if plan.recipe.models:
        return []
    rows, done = [], 0
    index = {parent.reference: i for i, parent in enumerate(plan.parents)}
    for i, section in enumerate(plan.recipe.sections):
        if i and plan.recipe.sections[i - 1].module != section.module:
            done = 0
        length = _length(section)
        rows.append(
            {
                "module": section.module or None,
                "layers": None if length is None else [done, done + length],
                "sources": [
                    {"parent": index[source.model], "layers": None if source.layers is None else list(source.layers)}
                    for source in section.sources
                ],
            }
        )
        done += length or 0
    return rows


def _length(section: Section) -> int | None:
    first = section.sources[0].layers
    return None if first is None else first[1] - first[0]


def layer_lines(plan: Plan) -> list[str]:
    """The rows as lines, and whose tensors stand before and after the layers."""
    lines: list[str] = []
    rows = layer_rows(plan)
    for i, (row, section) in enumerate(zip(rows, plan.recipe.sections, strict=False)):
        own = f"; {values_text(section.parameters)}" if section.parameters else ""
        if row["module"] and (not i or rows[i - 1]["module"] != row["module"]):
            lines.append(f"  module {row['module']}")
        if row["layers"] is None:
            lines.append(f"  all of it: {_names(plan, row)}{own}")
            continue
        told = ", ".join(_source(plan, source) for source in section.sources)
        lines.append(f"  {_span(row['layers']):>7}  {told}{own}")
        last = i + 1 == len(rows) or rows[i + 1]["module"] != row["module"]
        if last:
            first = next(r for r in rows if r["module"] == row["module"])
            lines += [f"   before the layers: {_names(plan, first)}", f"   after them: {_names(plan, row)}"]
    return lines


def _source(plan: Plan, source: Source) -> str:
    """``0-3 of org/model``, with its parameters where the model's line among the parents does not have them."""
    told = any(parent.reference == source.model and parent.parameters for parent in plan.parents)
    own = f" ({values_text(source.parameters)})" if source.parameters and not told else ""
    return f"{_span(source.layers or (0, 0))} of {source.model}{own}"


def _names(plan: Plan, row: dict[str, Any]) -> str:
    return ", ".join(str(plan.parents[source["parent"]].reference) for source in row["sources"])


def _span(layers: Sequence[int]) -> str:
    first, last = layers[0], layers[1] - 1
    return str(first) if first == last else f"{first}-{last}"
