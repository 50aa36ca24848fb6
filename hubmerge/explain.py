"""A `Plan` in words: text for the terminal, JSON for programs, a data frame and HTML for notebooks."""

from __future__ import annotations

import html
from collections import Counter
from dataclasses import asdict
from typing import Any

from hubmerge.differences import differences
from hubmerge.explain_layers import layer_lines, layer_rows
from hubmerge.explain_values import values_text
from hubmerge.plan_types import Operand, Plan, Step
from hubmerge.sizes import size_text

__all__ = ["plan_dict", "plan_frame", "plan_html", "plan_text", "preparation_dict"]

_DOING = {
    "merge": "merged by {method}",
    "average": "averaged (running statistics)",
    "count": "largest taken (counters)",
    "copy": "copied",
}


def plan_text(plan: Plan) -> str:
    """The plan as a page of text: parents, what happens to how many tensors, bytes, memory, files, warnings, differences."""
    lines = [f"{plan.method.name}: {plan.method.summary}", "", "parents"]
    lines += [_parent_line(plan, i) for i in range(len(plan.parents))]
    lines += [f"  all models: {values_text(plan.recipe.parameters)}"] if plan.recipe.parameters else []
    layers = layer_lines(plan)
    lines += ["", "layers", *layers] if layers else []
    if plan.alignment is not None:
        from hubmerge.alignment.words import alignment_lines

        lines += ["", *alignment_lines(plan, plan.alignment)]
    if plan.preparation is not None:
        lines += ["", "run before", *plan.preparation.lines]
    lines += ["", "tensors"]
    anew = plan.alignment is not None and plan.alignment.estimates_statistics
    doing = {**_DOING, **({"average": "estimated anew (running statistics)"} if anew else {})}
    for (action, dtypes), steps in _groups(plan).items():
        entries = sum(step.output.numel for step in steps)
        lines.append(
            f"  {len(steps):5d} {doing[action].format(method=plan.method.name)}, {entries:,} entries, {dtypes}"
        )
    if plan.vocabulary is not None:
        first, *others = plan.vocabulary.lines
        lines += ["", f"vocabulary  {first}", *(f"  {line}" for line in others)]
    files = list(plan.layout.sizes)
    named = ", ".join(files[:3]) + (", ..." if len(files) > 3 else "")
    lines += [
        "",
        f"reads        {size_text(plan.bytes_read)}",
        f"downloads    {_downloads(plan)}",
        f"writes       {size_text(plan.bytes_written)} in {len(files)} weight file{'s' * (len(files) > 1)}: {named}",
        f"memory       at most {size_text(plan.peak_memory)} of buffers, {plan.jobs} worker{'s' * (plan.jobs > 1)}",
        f"carried over config.json{''.join(', ' + file.name for file in plan.carried)}",
    ]
    lines += [f"made anew    {', '.join(plan.written)}"] if plan.written else []
    lines += [f"left behind  {', '.join(plan.left)}"] if plan.left else []
    lines += [f"{'note' if text in plan.notes else 'warning':<13}{text}" for text in plan.warnings]
    lines += [f"differs      {text}" for text in differences(plan)]
    lines += [f"plan         {plan.hash[:12]}"]
    return "\n".join(lines)


def _downloads(plan: Plan) -> str:
    if not plan.downloads:
        return "nothing: all of it is on this disk"
    by_parent: dict[int, int] = {}
    for file in plan.downloads:
        by_parent[file.parent] = by_parent.get(file.parent, 0) + file.size
    parts = [f"{size_text(size)} of {plan.parents[parent].reference}" for parent, size in by_parent.items()]
    count = len(plan.downloads)
    return f"{size_text(plan.bytes_to_download)} in {count} file{'s' * (count > 1)}: {', '.join(parts)}"


def _parent_line(plan: Plan, index: int) -> str:
    parent = plan.parents[index]
    roles: list[str] = [parent.role]
    roles += ["config"] if index == plan.config_donor else []
    roles += ["tokenizer"] if index == plan.tokenizer_donor else []
    adapted = sum(
        any(o.parent == index and (o.low_rank is not None or o.in_adapter) for o in step.inputs) for step in plan.steps
    )
    roles += [f"its adapter changes {adapted} tensor{'s' * (adapted > 1)}"] if parent.reference.adapter else []
    pin = f" @ {parent.commit[:12]}" if parent.commit else ""
    own = f"  {values_text(parent.parameters)}" if parent.parameters else ""
    return f"  {parent.reference}{pin}  ({', '.join(roles)}){own}"


def _groups(plan: Plan) -> dict[tuple[str, str], list[Step]]:
    groups: dict[tuple[str, str], list[Step]] = {}
    for step in plan.steps:
        read = Counter(operand.tensor.dtype.torch_name for operand in step.inputs)
        kinds = " + ".join(sorted(read))
        written = step.output.dtype.torch_name
        key = (step.action, written if kinds == written else f"{kinds} to {written}")
        groups.setdefault(key, []).append(step)
    return groups


def plan_dict(plan: Plan) -> dict[str, Any]:
    """The plan as JSON values, every tensor with its inputs."""
    from hubmerge.alignment.words import alignment_dict

    return {
        "method": plan.method.name,
        "method_revision": plan.method.revision,
        "hash": plan.hash,
        "recipe": plan.recipe.to_dict(),
        "parents": [
            {
                "reference": str(parent.reference),
                "role": parent.role,
                "commit": parent.commit,
                "adapter_commit": parent.adapter_commit,
                "headers": dict(parent.headers),
                "parameters": dict(parent.parameters),
            }
            for parent in plan.parents
        ],
        "alignment": alignment_dict(plan.alignment),
        "preparation": preparation_dict(plan),
        "layers": layer_rows(plan),
        "config_donor": plan.config_donor,
        "tokenizer_donor": plan.tokenizer_donor,
        "steps": [_step_dict(step) for step in plan.steps],
        "config": dict(plan.config),
        "vocabulary": asdict(plan.vocabulary) if plan.vocabulary is not None else None,
        "written": list(plan.written),
        "files": dict(plan.layout.sizes),
        "carried": [{"name": file.name, "parent": file.parent, "size": file.size} for file in plan.carried],
        "downloads": [
            {"name": file.name, "parent": file.parent, "from_adapter": file.in_adapter, "size": file.size}
            for file in plan.downloads
        ],
        "left": list(plan.left),
        "warnings": list(plan.warnings),
        "notes": list(plan.notes),
        "differences": list(differences(plan)),
        "dtype": plan.dtype,
        "parameters": plan.parameters,
        "jobs": plan.jobs,
        "bytes_read": plan.bytes_read,
        "bytes_written": plan.bytes_written,
        "bytes_to_download": plan.bytes_to_download,
        "peak_memory": plan.peak_memory,
    }


def preparation_dict(plan: Plan) -> dict[str, Any] | None:
    """What is run before the merge as JSON values; None where nothing is."""
    found = plan.preparation
    if found is None:
        return None
    return {
        "calibration": [asdict(own) for own in found.calibration],
        "lines": [line.strip() for line in found.lines],
        "memory": found.memory,
        "scratch": found.scratch,
    }


def _step_dict(step: Step) -> dict[str, Any]:
    output = step.output
    return {
        "name": output.name,
        "action": step.action,
        "dtype": output.dtype.value,
        "shape": list(output.shape),
        "file": output.file,
        "start": output.start,
        "end": output.end,
        "base": _operand_dict(step.base) if step.base else None,
        "inputs": [_operand_dict(operand) for operand in step.operands],
        "parameters": {name.rstrip("_"): value for name, value in step.values.items()},
    }


def _operand_dict(operand: Operand) -> dict[str, Any]:
    tensor = operand.tensor
    row: dict[str, Any] = {
        "parent": operand.parent,
        "name": tensor.name,
        "dtype": tensor.dtype.value,
        "file": tensor.file,
    }
    if operand.low_rank is not None:
        row["adapter"] = {
            "rank": operand.low_rank.rank,
            "scale": operand.low_rank.scale,
            "tensors": [meta.name for meta in operand.low_rank.stored],
        }
    if operand.in_adapter:
        row["from_adapter"] = True
    if operand.rows is not None:
        row["rows"] = {
            "own": int((operand.rows.own >= 0).sum()),
            "filled": [{"parent": fill.operand.parent, "rows": int(fill.at.size)} for fill in operand.rows.fills],
            "padding": operand.rows.padding,
        }
    return row


def plan_frame(plan: Plan) -> Any:
    """A pandas data frame with one row per output tensor."""
    import pandas as pd

    rows = [_step_dict(step) for step in plan.steps]
    return pd.DataFrame([{**row, "inputs": len(row["inputs"])} for row in rows])


def plan_html(plan: Plan) -> str:
    """The text of the plan for a notebook; names come from strangers' files and are escaped."""
    return f"<pre>{html.escape(plan_text(plan))}</pre>"
