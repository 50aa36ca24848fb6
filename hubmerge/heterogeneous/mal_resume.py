"""A merge of single layers that is gone on with: every decision is on the disk before the next is looked for, in OUT.partial's journal.

The first line says what the decisions belong to: plan, models, data, versions.  Each line after it is a decision, brought to the disk
as it is made, so that also after a power loss a whole line is true.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hubmerge.heterogeneous.execute import Assembled
from hubmerge.heterogeneous.mal_data import data_of
from hubmerge.heterogeneous.mal_decisions import Decision, decisions_from_json
from hubmerge.heterogeneous.mal_execute import write_mal
from hubmerge.heterogeneous.mal_plan_types import MalPlan
from hubmerge.io.journal import JOURNAL_NAME, journal_line, to_disk, whole_lines
from hubmerge.io.partial import PARTIAL_MARK, empty
from hubmerge.io.unchanged import FileState
from hubmerge.io.writer import OutputFolder
from hubmerge.record import computing_versions
from hubmerge.version import __version__

__all__ = ["read_decisions", "write_resumed"]


def write_resumed(
    plan: MalPlan,
    folder: OutputFolder,
    samples: Sequence[str],
    states: Sequence[FileState],
    note: Callable[[str], None] = lambda _: None,
) -> Assembled:
    """`write_mal` into OUT.partial, after the decisions that an interrupted merge of the same plan, models and data left there.

    samples, states: what `sample_digests` and `file_states` say of the weights.
    """
    data = data_of(plan)
    identity = {
        "plan": plan.hash,
        "samples": list(samples),
        "states": [list(state) for state in states],
        "data": data.digests,
        "versions": {"hubmerge": __version__, **computing_versions()},
    }
    path = folder.partial / JOURNAL_NAME
    left, made = read_decisions(path)
    if left != identity and made:
        changed = dict.fromkeys(_CHANGED[key] for key in _CHANGED if left is None or left.get(key) != identity[key])
        note(f"the decisions in {folder.partial} are not used: {' and '.join(changed)} since they were made")
    made = made if left == identity else ()
    if made:
        folder.keep(len(made), plan.turns)
        note(f"{folder.partial} holds {len(made)} of {plan.turns} decisions: going on from there")
    else:
        folder.forget()
    _write_anew(path, identity, made)
    empty(folder.partial, {PARTIAL_MARK, JOURNAL_NAME})
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | getattr(os, "O_BINARY", 0))

    def keep(decision: Decision) -> None:
        os.write(descriptor, journal_line(asdict(decision)))
        to_disk(descriptor)
        folder.keep(1, plan.turns)

    try:
        return write_mal(plan, folder.partial, data=data, decisions=made, on_decision=keep, note=note)
    finally:
        os.close(descriptor)


_CHANGED = {
    "plan": "the plan has changed",
    "samples": "a model has changed",
    "states": "a model has changed",
    "data": "the data has changed",
    "versions": "hubmerge, Python, numpy, scipy, torch or transformers has changed",
}


def read_decisions(path: Path) -> tuple[Mapping[str, Any] | None, tuple[Decision, ...]]:
    """What the decisions of a journal belong to, and the decisions of its whole lines; none where there is no such journal."""
    try:
        with path.open("rb") as file:
            lines = [content for _, content in whole_lines(file)]
    except FileNotFoundError:
        return None, ()
    if not lines or not isinstance(lines[0], dict) or not isinstance(lines[0].get("identity"), dict):
        return None, ()
    return lines[0]["identity"], decisions_from_json(json.dumps(lines[1:]))


def _write_anew(path: Path, identity: Mapping[str, Any], made: Sequence[Decision]) -> None:
    """The journal with these decisions: a kill leaves the older one or this one."""
    beside = path.with_name(path.name + ".new")
    with beside.open("wb") as file:
        file.writelines([journal_line({"identity": identity}), *(journal_line(asdict(each)) for each in made)])
        file.flush()
        to_disk(file.fileno())
    beside.replace(path)
