"""A `MalPlan` carried out: the base and its donors loaded, layers tried and merged one by one, the base saved with what it took."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hubmerge.heterogeneous.execute import Assembled, Note, loaded_parents, saved, scratch_folder
from hubmerge.heterogeneous.loading import check_they_run
from hubmerge.heterogeneous.mal_data import MalData, data_of
from hubmerge.heterogeneous.mal_decisions import Decision
from hubmerge.heterogeneous.mal_plan_types import MalPlan
from hubmerge.heterogeneous.mal_record import layers_record
from hubmerge.heterogeneous.mal_rounds import assemble_from_zoo
from hubmerge.heterogeneous.scratch import scratch_in
from hubmerge.heterogeneous.telling import now_and_then
from hubmerge.torch_threads import one_torch_thread

__all__ = ["write_mal"]

_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


def write_mal(
    plan: MalPlan,
    folder: Path,
    *,
    data: MalData | None = None,
    decisions: Sequence[Decision] = (),
    on_decision: Callable[[Decision], None] = lambda _: None,
    note: Note = lambda _: None,
) -> Assembled:
    """Merge layers of the donors of `plan`, which are on this disk, into its base, and save it into `folder`.

    data: `data_of` the plan, where it is drawn already.  decisions: of the same merge, applied and not searched again.  on_decision: is
    told every decision that is made beyond them.  note: is told what is begun, and now and then how far it is.  One thread of torch
    computes, so that the same merge has the same bytes.

    Raises `PlanError` for data or a config that cannot be used, `MergeError` for a model that transformers cannot load, and `NumbersError`
    for numbers that are not finite.
    """
    room = plan.memory_use.room
    with (
        scratch_folder(folder) as scratch,
        one_torch_thread(),
        nullcontext() if room is None else scratch_in(scratch, room) as spilled,
    ):
        found = data_of(plan) if data is None else data
        models = loaded_parents(plan, scratch, note)
        if found.batches is not None:
            check_they_run(models, [str(plan.parents[place].reference) for place in plan.order], found.batches)
        what = f"{plan.samples} samples of noise" if found.batches is None else f"{len(found.batches)} samples"
        note(f"pairing layers and units on {what}")
        base, *donors = models
        own = plan.stages.parameters
        done = assemble_from_zoo(
            base,
            donors,
            found.batches,
            tau=own.tau,
            factors=own.factors,
            probe=found.labelled,
            eps=own.eps,
            rounds=own.rounds,
            min_similarity=plan.stages.min_similarity,
            min_cka=own.min_cka,
            without=plan.stages.without,
            renormalise=found.batches is not None,
            decisions=decisions,
            on_decision=_Followed(plan.turns, len(decisions), on_decision, note),
            choose=own.choose,
            seed=plan.recipe.seed,
            shared=True,
            scratch=spilled,
        )
        accepted = sum(decision.accepted for decision in done.decisions)
        note(f"{accepted} of {plan.turns} turns accepted; writing")
        kinds = _kinds(base.state_dict(), done.model.state_dict(), _STATISTICS if found.batches is not None else ())
        statistics = "estimated" in kinds.values()
        record = layers_record(plan, done.decisions, done.losses, found, statistics=statistics)
        counts = {kind: list(kinds.values()).count(kind) for kind in ("merged", "estimated", "kept")}
        return saved(plan, folder, done.model, record, counts)


@dataclass
class _Followed:
    """Passes new decisions on, and tells how far it is."""

    total: int
    known: int
    on_decision: Callable[[Decision], None]
    note: Note
    made: int = 0
    accepted: int = 0
    tell: Note = field(init=False)

    def __post_init__(self) -> None:
        self.tell = now_and_then(self.note)

    def __call__(self, decision: Decision) -> None:
        self.made += 1
        self.accepted += decision.accepted
        if self.made > self.known:
            self.on_decision(decision)
            self.tell(
                f"{self.made} of {self.total} turns: {self.accepted} accepted, {self.made - self.accepted} refused"
            )


def _kinds(before: Mapping[str, Any], after: Mapping[str, Any], estimated: tuple[str, ...]) -> dict[str, str]:
    """What became of every tensor: kept as it was, merged, or estimated anew; tied ones are told once.

    estimated: what the names of those end with that are estimated where anything was merged.
    """
    import torch

    found = {}
    for name, values in {values.data_ptr(): (name, values) for name, values in after.items()}.values():
        if torch.equal(before[name], values):
            found[name] = "kept"
        else:
            found[name] = "estimated" if name.endswith(estimated) else "merged"
    return found
