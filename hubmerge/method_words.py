"""What a method needs and what it costs, in words, as its record tells."""

from __future__ import annotations

from typing import get_args

from hubmerge.method import MergeMethod, around, parameter_values, with_inner

__all__ = ["cost_of", "inners_of", "needs_of"]

_BASE = {
    "required": "a base model",
    "start": "a base model, which is one of the parents",
    "optional": "parents, with a base model or without",
    "none": "parents alone",
}


def needs_of(method: MergeMethod) -> str:
    """Models, and data where there is any to look at."""
    fewest, most = method.parents
    count = f"{fewest} or more" if most is None else str(fewest) if fewest == most else f"{fewest} to {most}"
    told = f"{_BASE[method.base]}; {count} parent{'s' * (count != '1')}"
    return f"{told}; {method.wrapper.needs}" if method.wrapper is not None and method.wrapper.needs else told


def cost_of(method: MergeMethod) -> str:
    """How often tensors are read, and how much of them is in memory at once."""
    if method.kind == "matrix":
        told = "every tensor read once; one whole matrix of all parents in memory for each worker"
    else:
        reads = _reads(method)
        often = "as often as its parameters ask" if reads is None else "once" if reads == 1 else f"{reads} times"
        told = f"every tensor read {often}, by default; a chunk of it in memory"
    return f"{told}; before that {method.wrapper.cost}" if method.wrapper is not None and method.wrapper.cost else told


def inners_of(method: MergeMethod) -> tuple[str, ...]:
    """For each inner method but the first what parameters it adds, and which have another default with it."""
    field = method.parameters.model_fields.get("inner")
    found = []
    for inner in get_args(field.annotation)[1:] if field is not None else ():
        other = with_inner(method.wrapper, inner) if method.wrapper else around(method, {"inner": inner})
        own = method.parameters.model_fields
        changed = [
            f"{other.parameters.alias(name)} ({_shown(info.default)})"
            for name, info in other.parameters.model_fields.items()
            if name not in own or own[name].default != info.default
        ]
        if changed:
            found.append(f"with inner: {inner} also {', '.join(changed)}")
    return tuple(found)


def _shown(default: object) -> str:
    return str(default).lower() if isinstance(default, bool) else str(default)


def _reads(method: MergeMethod) -> int | None:
    """How often a tensor is read with the method's defaults; None where a parameter has none."""
    fields = method.parameters.model_fields.values()
    if any(field.is_required() for field in fields):
        return None if callable(method.passes) else 1 + (method.passes if method.measure is not None else 0)
    return method.reads(parameter_values(method, [{}] * max(2, method.parents[0])))
