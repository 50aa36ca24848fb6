"""What a card says of deltas that were carried to another model: from where, by which alignment, and how much arrived."""

from __future__ import annotations

from cards.markdown import Markup, code, text
from hubmerge.assembly_record import AssemblyRecord

__all__ = ["carried_limits", "carried_matching", "carried_remarks"]

_HOW = {
    "activations": "aligned by how their units correlate on the calibration data",
    "weights": "aligned by the weights that connect their units",
    "identity": "taken as they stand, without being aligned",
}


def carried_matching(record: AssemblyRecord) -> Markup:
    """What was added to what."""
    parts = [
        f"what {_name(name)} learned on top of {_name(carried.base)} ({weight:g} times)"
        for name, carried, weight in zip(record.order[1:], record.transport or (), record.weights[1:], strict=True)
    ]
    return Markup(
        f"This is {_name(record.order[0])} and, added to it, {' and '.join(parts)}. The bases were {_HOW[record.align]}, and the "
        "differences brought into the units of the first. All units of a kind together:"
    )


def carried_remarks(record: AssemblyRecord) -> tuple[Markup, ...]:
    """How much of each task vector arrived; nothing for a merge that carried none."""
    found = []
    for name, carried in zip(record.order[1:], record.transport or (), strict=False):
        least = min(carried.tensors, key=lambda tensor: carried.tensors[tensor], default=None)
        worst = f", least of {code(least)} ({carried.tensors[least]:.0%})" if least is not None else ""
        found.append(Markup(f"Of what {_name(name)} learned, {carried.share:.1%} of the norm was carried{worst}."))
    return tuple(found)


def carried_limits() -> tuple[Markup, ...]:
    """What to expect."""
    return (
        Markup(
            "What was learned on another base fits this one only as far as both work alike: a large share of the norm does not mean "
            "that the merge can do what the models can. Rely on measured numbers only, and compare with the base model alone."
        ),
    )


def _name(name: str) -> Markup:
    return text(name.removeprefix("./"))
