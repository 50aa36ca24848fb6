"""The weight files of a merge, into OUT.partial: what an interrupted merge left is kept, the rest is computed, all is hashed."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy.typing as npt

from hubmerge.execute import execute, piece_bytes, pieces
from hubmerge.io.digests import FileDigests
from hubmerge.io.input_files import InputFiles
from hubmerge.io.journal import JOURNAL_NAME, Found, Journal, Piece, read_journal
from hubmerge.io.partial import percent
from hubmerge.io.unchanged import FileState
from hubmerge.io.writer import OutputFolder
from hubmerge.plan_types import Plan, Step
from hubmerge.prologue import pooled_states
from hubmerge.record import versions_of
from hubmerge.version import __version__

__all__ = ["Written", "identity_of", "write_weights"]


@dataclass(frozen=True)
class Written:
    """found: bytes of tensors that were there before, of `total`; digests: weight file -> sha256, empty when not wanted;
    digest_seconds: how long after the last write the last digest was known.  pooled: what `pooled_states` found.
    """

    found: int
    total: int
    digests: Mapping[str, str]
    digest_seconds: float
    pooled: Mapping[str, Any] = field(default_factory=dict)

    @property
    def found_percent(self) -> int:
        """The share of the work that was there before; 1 for less than that."""
        return percent(self.found, self.total)


def write_weights(
    plan: Plan,
    folder: OutputFolder,
    identity: Mapping[str, Any],
    *,
    inputs: InputFiles | None = None,
    prepared: bool = False,
    digest: bool = True,
    device: str = "cpu",
    progress: Callable[[int], None] = lambda _: None,
    note: Callable[[str], None] = lambda _: None,
) -> Written:
    """Write every tensor of `plan` into `folder`, but for the pieces that its journal has.

    identity: what `identity_of` gives; the journal must agree with it.  inputs: where the parents' numbers are read, default the files
    that the plan names; closed by this.  prepared: whether something in the folder is worth keeping before any piece is.  device:
    of matrix methods.  note: is told, in a sentence, what was found.
    """
    layout, journal_path = plan.layout, folder.partial / JOURNAL_NAME
    left = _agreeing(read_journal(journal_path), identity, folder, note)
    complete = folder.open_complete(layout.sizes)
    all_pieces = list(pieces(plan))
    total = sum(step.output.nbytes for step in plan.steps)
    there = set(left.pieces)
    done = [piece for piece in all_pieces if piece in there and plan.steps[piece.step].output.file in complete]
    spans = {piece: piece_bytes(plan, piece) for piece in all_pieces}
    found = sum(stop - start for _, start, stop in (spans[piece] for piece in done))
    if found:
        folder.keep(found, total)
        progress(found)
        note(f"{folder.partial} holds {percent(found, total)} % of this merge: going on from there")
    elif left.pooled or prepared:
        folder.keep(0, total)
    else:
        folder.forget()
    with ExitStack() as stack:
        journal = stack.enter_context(Journal(journal_path, Found(identity, tuple(done), left.pooled), folder.sync))
        folder.reserve(layout.headers, layout.sizes)
        follow = stack.enter_context(FileDigests(folder.partial, layout.sizes, plan.jobs)) if digest else None
        if follow is not None:
            for name, header in layout.headers.items():
                here = [spans[piece][1:] for piece in done if spans[piece][0] == name]
                follow.written(name, [(0, len(header)), *here])

        def sink(step: Step, first: int, entries: npt.NDArray[Any]) -> None:
            folder.write(step.output.file, step.output.start + first * entries.itemsize, entries)

        def finished(piece: Piece) -> None:
            name, start, stop = spans[piece]
            journal.add(piece)
            folder.keep(stop - start, total)
            if follow is not None:
                follow.written(name, [(start, stop)])

        pools = left.pooled
        if pools is None:
            with nullcontext(inputs) if inputs is not None else InputFiles(plan.parents) as files:
                pools = pooled_states(plan, files, plan.jobs)
            journal.add_pooled(pools)
        if pools:
            folder.keep(0, total)
        execute(
            plan,
            sink,
            progress=progress,
            inputs=inputs,
            done=frozenset(done),
            finished=finished,
            pools=pools,
            device=device,
            target=folder.target,
        )
        last_write = time.perf_counter()
        digests = follow.result() if follow is not None else {}
    return Written(found, total, digests, time.perf_counter() - last_write if digest else 0.0, pools)


def identity_of(plan: Plan, samples: tuple[str, ...], states: tuple[FileState, ...], device: str) -> dict[str, Any]:
    """What the bytes of a piece depend on, as JSON; the plan's hash has the layout and the method's revision in it.

    samples, states: what `sample_digests` and `file_states` say of the parents' weights.
    """
    versions = {"hubmerge": __version__, **versions_of(plan)}
    parents = {"samples": list(samples), "states": [list(state) for state in states]}
    return {"plan": plan.hash, **parents, "versions": versions, "device": device}


_CHANGED = {
    "plan": "the plan has changed",
    "samples": "a parent has changed",
    "states": "a parent has changed",
    "versions": "hubmerge, Python, numpy, numba or torch has changed",
    "device": "the device has changed",
    "adapter": "what comes of the adapters has changed",
    "prepared": "other coefficients were found",
}


def _agreeing(left: Found, identity: Mapping[str, Any], folder: OutputFolder, note: Callable[[str], None]) -> Found:
    if left.identity == identity:
        return left
    if left.identity is not None and left.pieces:
        changed = dict.fromkeys(_CHANGED[key] for key in _CHANGED if left.identity.get(key) != identity.get(key))
        note(f"what is in {folder.partial} is not used: {' and '.join(changed)} since it was made")
    return Found()
