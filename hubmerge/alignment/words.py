"""An alignment in words: the lines of a plan, its JSON, and what came of it."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import Any

from hubmerge.alignment.plan_types import PlannedAlignment
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
    del found["warnings"], found["notes"]  # the plan has them
    return {**found, "groups": list(found["groups"]), "kept": dict(alignment.kept), "others": list(alignment.others)}


def how_aligned(record: AlignmentRecord) -> tuple[str, ...]:
    """What was moved of each parent, a sentence each."""
    return tuple(_moved(record, parent) for parent in record.parents)


def _moved(record: AlignmentRecord, parent: AlignedParentRecord) -> str:
    groups = parent.groups.values()
    units, moved, apart = (sum(getattr(group, what) for group in groups) for what in ("size", "moved", "apart"))
    into = f"{parent.reference} in the order of {record.base_model}"
    if not moved and not apart:
        return f"{into}: none of {units} units moved"
    told = f"{into}: {moved} of {units} units moved"
    told += f", {apart} without a partner" if apart else ""
    paired = sum(group.size - group.apart for group in groups)
    if not paired:
        return told
    alike = sum((group.size - group.apart) * group.similarity for group in groups) / paired
    what = {"weights": "cosine", "activations": "correlation"}[record.method]
    before = [group.before for group in groups]
    was = sum(group.size * (group.before or 0) for group in groups) / units
    return f"{told}, {what} {alike:.2f} on average" + (f", before {was:.2f}" if None not in before else "")
