"""A search for layers that is killed, at any decision: the same command goes on after the last one, and ends with the same bytes."""

from __future__ import annotations

import multiprocessing
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from mal_recipes import WHOLE, data
from pleas_models import files_of

import hubmerge
from hubmerge.assemble import merge_plan
from hubmerge.errors import MergeInterrupted
from hubmerge.heterogeneous import mal_resume
from hubmerge.heterogeneous.mal_search import Search
from hubmerge.io.journal import JOURNAL_NAME

pytestmark = pytest.mark.usefixtures("in_mal_zoo")


def searches(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The layers that are searched for from now on."""
    found: list[str] = []
    decide = Search.decide

    def told(self: Search, *given: Any) -> Any:
        found.append(given[-1][2].ours.name)
        return decide(self, *given)

    monkeypatch.setattr(Search, "decide", told)
    return found


def killed_after(decisions: int, out: Path) -> None:
    """A merge of `WHOLE` in a process of its own that is killed when so many decisions are on the disk."""

    def merging() -> None:
        to_disk, seen = mal_resume.to_disk, [0]

        def die(descriptor: int) -> None:
            to_disk(descriptor)
            seen[0] += 1
            if seen[0] == 1 + decisions:  # the first is the journal's head
                os.kill(os.getpid(), signal.SIGKILL)

        mal_resume.to_disk = die  # type: ignore[attr-defined]  # in this process alone
        hubmerge.merge(WHOLE, out)

    process = multiprocessing.get_context("fork").Process(target=merging)
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL


@pytest.mark.parametrize("decisions", [0, 2, 4])
def test_a_merge_that_is_killed_goes_on_after_its_last_decision(
    merged: Path, tmp_path: Path, decisions: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    killed_after(decisions, out)
    assert not out.exists()
    found, notes = searches(monkeypatch), list[str]()
    merge_plan(hubmerge.build_plan(WHOLE), out, note=notes.append)
    assert len(found) == 4 - decisions
    going_on = f"{tmp_path / 'out.partial'} holds {decisions} of 4 decisions: going on from there"
    assert (going_on in notes) == (decisions > 0)
    assert files_of(out) == files_of(merged)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_line_that_was_not_finished_counts_for_nothing(
    merged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed_after(2, tmp_path / "out")
    journal = tmp_path / "out.partial" / JOURNAL_NAME
    journal.write_bytes(journal.read_bytes()[:-3])
    found = searches(monkeypatch)
    hubmerge.merge(WHOLE, tmp_path / "out")
    assert len(found) == 3
    assert files_of(tmp_path / "out") == files_of(merged)


def test_what_was_decided_on_other_data_is_not_gone_on_with(
    merged: Path, mal_zoo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed_after(2, tmp_path / "out")
    kept = (mal_zoo / "data.npz").read_bytes()
    found, notes = searches(monkeypatch), list[str]()
    try:
        data(mal_zoo, classes=2)
        merge_plan(hubmerge.build_plan(WHOLE), tmp_path / "out", note=notes.append)
    finally:
        (mal_zoo / "data.npz").write_bytes(kept)
    assert notes[0] == (
        f"the decisions in {tmp_path / 'out.partial'} are not used: the data has changed since they were made"
    )
    assert len(found) == 4


def test_fresh_begins_anew(merged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    killed_after(2, tmp_path / "out")
    found = searches(monkeypatch)
    hubmerge.merge(WHOLE, tmp_path / "out", fresh=True)
    assert len(found) == 4
    assert files_of(tmp_path / "out") == files_of(merged)


def test_ctrl_c_keeps_the_decisions_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decide, made = Search.decide, [0]

    def interrupted(self: Search, *given: Any) -> Any:
        made[0] += 1
        if made[0] == 3:
            raise KeyboardInterrupt
        return decide(self, *given)

    monkeypatch.setattr(Search, "decide", interrupted)
    with pytest.raises(MergeInterrupted) as stopped:
        hubmerge.merge(WHOLE, tmp_path / "out")
    assert str(stopped.value) == (
        f"interrupted: {tmp_path / 'out.partial'} holds 50 % of the merge; the same command goes on from there"
    )
