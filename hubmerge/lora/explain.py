"""An `AdapterPlan` in words, a page of text for the terminal, and as JSON values."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hubmerge.explain import preparation_dict
from hubmerge.explain_values import values_text
from hubmerge.lora.plan_types import AdapterPlan
from hubmerge.sizes import size_text

__all__ = ["adapter_dict", "adapter_text"]

_BASES = {
    "knots": "knots: in the left singular vectors of all changes side by side",
    "core": "core: between the singular vectors of all B and of all A",
    "none": "none: as PEFT combines factors",
}


def adapter_text(plan: AdapterPlan) -> str:
    """The plan as a page of text: adapters, base, modules, ranks, what differs, bytes, memory, warnings."""
    lines = [f"{plan.method.name}: {plan.method.summary}", "", "parents"]
    lines += [_parent_line(plan, i) for i in range(len(plan.parents))]
    lines += [f"  all adapters: {values_text(plan.recipe.parameters)}"] if plan.recipe.parameters else []
    if plan.running is not None and plan.running.preparation is not None:
        lines += ["", "run before", *plan.running.preparation.lines]
    lines += ["", *(f"{what:<13}{text}" for what, text in _facts(plan))]
    lines += [f"{'differs':<13}{text}" for text in plan.differs]
    lines += [f"{'note' if text in plan.notes else 'warning':<13}{text}" for text in plan.warnings]
    return "\n".join([*lines, f"{'plan':<13}{plan.hash[:12]}"])


def _parent_line(plan: AdapterPlan, i: int) -> str:
    parent = plan.parents[i]
    pin = f" @ {parent.commit[:12]}" if parent.commit else ""
    own = f"  {values_text(parent.parameters)}" if parent.parameters else ""
    if i < plan.first:
        return f"  {parent.reference}{pin}  (base)"
    parts = plan.adapters[i - plan.first].modules.values()
    return f"  {parent.reference}{pin}  (adapter of {_modules(len(parts))}, rank {_range([part.rank for part in parts])}){own}"


def _facts(plan: AdapterPlan) -> Iterator[tuple[str, str]]:
    revision = f" @ {plan.base_revision}" if plan.base_revision else ""
    yield "base", f"{plan.base_model}{revision}" if plan.base_model else "no adapter says of which model it is"
    yield "basis", _BASES[plan.basis]
    ranks = [module.rank for module in plan.modules]
    possible = [module.possible for module in plan.modules]
    cut = sum(module.rank < module.possible for module in plan.modules)
    of = f"; cut from up to {_range(possible)} in {_modules(cut)}" if cut else ""
    yield "modules", f"{_modules(len(ranks))} of rank {_range(ranks)} at most{of}"
    yield "reads", size_text(plan.bytes_read)
    yield "downloads", size_text(plan.bytes_to_download) if plan.downloads else "nothing: all of it is on this disk"
    if plan.dense is None:
        yield "writes", f"at most {size_text(plan.bytes_written)}: an adapter in float32"
    else:
        files, beside = list(plan.dense.layout.sizes), size_text(plan.merged_bytes)
        what = f"{len(files)} weight file{'s' * (len(files) > 1)} in {plan.dtype}"
        yield "writes", f"{size_text(plan.dense.bytes_written)}: {what}; {beside} beside it until it is done"
    yield "memory", f"about {size_text(plan.peak_memory)}: the adapters and what comes of them"
    if plan.dense is not None:
        yield (
            "then",
            f"at most {size_text(plan.dense.peak_memory)} of buffers: the base's tensors, each with its change",
        )


def _range(values: list[int]) -> str:
    """One value, or the smallest and the largest."""
    return f"{min(values)}" if min(values) == max(values) else f"{min(values)} to {max(values)}"


def _modules(count: int) -> str:
    return f"{count} module{'s' * (count != 1)}"


def adapter_dict(plan: AdapterPlan) -> dict[str, Any]:
    """The plan as JSON values, every module with its ranks."""
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
                "headers": dict(parent.headers),
                "parameters": dict(parent.parameters),
            }
            for parent in plan.parents
        ],
        "kind": plan.recipe.output.kind,
        "basis": plan.basis,
        "missing": plan.missing,
        "base_model": plan.base_model,
        "base_revision": plan.base_revision,
        "modules": [
            {
                "name": module.name,
                "shape": list(module.shape),
                "ranks": list(module.ranks),
                "rank": module.rank,
                "possible": module.possible,
            }
            for module in plan.modules
        ],
        "differs": list(plan.differs),
        "dense": plan.dense.to_dict() if plan.dense is not None else None,
        "preparation": preparation_dict(plan.running) if plan.running is not None else None,
        "downloads": [{"name": file.name, "parent": file.parent, "size": file.size} for file in plan.downloads],
        "warnings": list(plan.warnings),
        "notes": list(plan.notes),
        "dtype": plan.dtype,
        "parameters": plan.parameters,
        "bytes_read": plan.bytes_read,
        "bytes_written": plan.bytes_written,
        "bytes_to_download": plan.bytes_to_download,
        "peak_memory": plan.peak_memory,
    }
