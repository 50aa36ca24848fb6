"""An alignment in words: the lines of a plan, its JSON, and what came of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from hubmerge.alignment.plan_types import PlannedAlignment, ResizedGroup
from hubmerge.alignment_record import AlignedParentRecord, AlignmentRecord
from hubmerge.plan_types import Plan
from hubmerge.sizes import size_text

__all__ = ["alignment_dict", "alignment_lines", "how_aligned"]

_BY = {
    "weights": "by the weights that connect them",
    "activations": "by the correlations of their activations on the calibration data",
}


def alignment_lines(plan: Plan, alignment: PlannedAlignment) -> list[str]:
    """What is done with the parents before the method runs."""
    called = [str(parent.reference) for parent in plan.parents]
    others = ", ".join(called[place] for place in alignment.others)
    lines = ["aligned", f"  {others} into the order of {called[alignment.base]}, {_BY[alignment.method]}"]
    rows: dict[tuple[str, int], list[str]] = {}
    for group in alignment.groups:
        rows.setdefault((group.row, group.size), []).append(group.name)
    count = Counter(row for row, _ in rows)
    told = [
        f"{row if count[row] == 1 and len(found) > 1 else found[0]} {size}"
        + (f" ({len(found)} groups)" if len(found) > 1 else "")
        for (row, size), found in rows.items()
    ]
    lines.append(f"  units of {', '.join(told)}" if told else "  units of no group: all stay in the order they have")
    if alignment.min_similarity is not None:
        lines.append(f"  pairs less alike than {alignment.min_similarity:g} are not merged: the unit is the base's own")
    lines += _resized_lines(alignment, called)
    reasons: dict[str, list[str]] = {}
    for name, reason in alignment.kept.items():
        reasons.setdefault(reason, []).append(name)
    lines += [
        f"  {_some(names)} stay{'s' * (len(names) == 1)} as {'it is' if len(names) == 1 else 'they are'}: {why}"
        for why, names in reasons.items()
    ]
    if alignment.estimates_statistics:
        lines.append(
            "  statistics of BatchNorm are estimated anew on the calibration data, once the weights are merged"
        )
    lines.append(
        f"  takes about {size_text(alignment.memory)} beside torch itself and {_duration(alignment.seconds)} of one core; "
        f"the copies, {size_text(alignment.copied)}, lie in OUT.partial and are removed at the end"
    )
    return lines


def _resized_lines(alignment: PlannedAlignment, called: Sequence[str]) -> list[str]:
    """What becomes of units of which a parent has more or fewer than the base, group by group."""
    rows: dict[tuple[object, ...], list[ResizedGroup]] = {}
    for group in alignment.resized:
        rows.setdefault((group.parent, group.row, group.size, group.units), []).append(group)
    lines = []
    for first, *rest in rows.values():
        name = first.row if rest else first.name
        count = f" ({1 + len(rest)} groups)" if rest else ""
        where = f" in each unit of {first.outer}" if first.outer else ""
        lines.append(
            f"  {called[first.parent]}: {name} {first.units} for {first.size}{where}{count}, "
            f"{_becomes(first, called[alignment.base])}"
        )
    return lines


def _becomes(group: ResizedGroup, base: str) -> str:
    if group.units > group.size:
        return f"{group.units - group.size} {'joined to the most similar' if group.folds else 'left out'}"
    missing = group.size - group.units
    if group.folds:
        return f"{missing} copied from the most similar"
    return f"{missing} filled in with {base}'s own numbers (a delta of 0)"


_SHOWN = 6
"""Groups that are named one by one."""


def _some(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")


def _duration(seconds: float) -> str:
    """Rough: an estimate has one digit that means something."""
    if seconds < 1:
        return "less than a second"
    for limit, unit, name in ((90, 1, "second"), (5400, 60, "minute"), (float("inf"), 3600, "hour")):
        if seconds < limit:
            count = max(1, round(seconds / unit))
            return f"{count} {name}{'s' * (count > 1)}"
    raise AssertionError


def alignment_dict(alignment: PlannedAlignment | None) -> dict[str, Any] | None:
    """The alignment of a plan as JSON values; None where there is none."""
    if alignment is None:
        return None
    found = asdict(alignment)
    del found["warnings"], found["notes"], found["stored"]  # the plan has them
    return {
        **found,
        "resized": list(found["resized"]),
        "groups": list(found["groups"]),
        "kept": dict(alignment.kept),
        "others": list(alignment.others),
    }


_WHOLE = 0.995
"""Of a norm: a share that is told as 100 %."""


def how_aligned(record: AlignmentRecord) -> tuple[str, ...]:
    """What was moved of each parent, a sentence each."""
    return tuple(_moved(record, parent) for parent in record.parents)


def _moved(record: AlignmentRecord, parent: AlignedParentRecord) -> str:
    groups = parent.groups.values()
    units, moved, apart, left_out, folded = (
        sum(getattr(group, what) for group in groups) for what in ("size", "moved", "apart", "left_out", "folded")
    )
    into = f"{parent.reference} in the order of {record.base_model}"
    if not (moved or apart or left_out or folded):
        return f"{into}: none of {units} units moved"
    told = f"{into}: {moved} of {units} units moved"
    told += f", {apart} without a partner" if apart else ""
    told += f", {left_out} left out" if left_out else ""
    told += f", {folded} joined to another or copied" if folded else ""
    told += f", {parent.share:.0%} of the weights' norm carried" if parent.share < _WHOLE else ""
    paired = sum(group.size - group.apart for group in groups)
    if not paired:
        return told
    alike = sum((group.size - group.apart) * group.similarity for group in groups) / paired
    what = {"weights": "cosine", "activations": "correlation"}[record.method]
    before = [group.before for group in groups]
    was = sum((group.size - group.apart) * (group.before or 0) for group in groups) / paired
    return f"{told}, {what} {alike:.2f} on average" + (f", before {was:.2f}" if None not in before else "")
